"""Storage: the interface (`base`), its engines (`sqlite`), blobs of files, and `open_store`."""
