"""What is put into a model: pictures, arrays and files as people have them, turned to canonical batches."""
