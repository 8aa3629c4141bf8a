"""What crosses the wire: requests and replies, signed, packed and bounded."""
