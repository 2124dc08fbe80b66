"""The flow, what a person may ask of it, its engines, its report and its history."""
