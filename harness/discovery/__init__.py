"""What is installed, and where its code is. Imports no torch and no plugin before something of it is used."""
