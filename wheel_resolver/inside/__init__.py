"""What a wheel really is, whatever its name says, and whether it loads here."""
