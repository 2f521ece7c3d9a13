"""Search settings and calibration of confidences, chosen on dev."""
