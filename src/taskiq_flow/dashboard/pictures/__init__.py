"""What is drawn on the server: graphs, timelines, heat strips, charts, as plain numbers; pure."""
