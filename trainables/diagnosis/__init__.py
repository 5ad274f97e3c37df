"""The model doctor: why a network predicts badly, found by changing one thing at a time and looking what it moves."""
