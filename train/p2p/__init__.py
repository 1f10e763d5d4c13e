"""`gridmarl compare p2p`: forms of local trade on the same homes and prices (docs/p2p.md)."""
