"""The whole way on synthetic faces, small: `norface quickstart`."""
