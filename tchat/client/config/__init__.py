"""Client configuration: settings file, command-line options, directories."""
