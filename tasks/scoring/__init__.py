"""Score mattes, and the mattes that a network predicts, against a release."""
