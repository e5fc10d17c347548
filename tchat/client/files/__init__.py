"""File transfers of the client: uploads, downloads, their queue, tar archives."""
