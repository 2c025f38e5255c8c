"""What a report shows beside the record: the data, the models' predictions, pictures, what knobs do."""
