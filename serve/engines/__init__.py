"""What generates: the engines behind one interface, and the decisions of attention, dtype and device."""
