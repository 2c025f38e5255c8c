"""How results are shown: tables, sentences, plain values, pictures. Computes nothing that decides."""
