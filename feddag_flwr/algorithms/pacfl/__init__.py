"""PACFL : clusters by principal angles between the clients' data."""
