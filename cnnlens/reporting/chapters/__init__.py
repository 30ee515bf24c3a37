"""What each chapter of the lesson shows: numbers of the bundled sample, made by the rooms that the commands use."""
