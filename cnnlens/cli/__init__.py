"""The command line: a file a command, which parses, calls one public function and prints what it gave."""
