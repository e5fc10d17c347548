"""File transfers of the client: upload, download, resume, queue, tar archives."""
