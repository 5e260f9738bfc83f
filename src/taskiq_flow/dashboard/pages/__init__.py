"""The pages of the dashboard: what each shows, and which parts of it are live."""
