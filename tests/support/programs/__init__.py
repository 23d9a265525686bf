"""Programs that tests run in processes of their own, each a module with `main`."""
