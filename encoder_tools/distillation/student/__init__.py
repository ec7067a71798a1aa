"""The student: its architecture, its vocabulary, where its weights start, and the adapters it is trained with."""
