"""What crosses between who asks for a run and who carries it out: values, files, names. No torch."""
