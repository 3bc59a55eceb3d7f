"""A lock that is taken twice: the program waits for itself."""
import threading

lock = threading.Lock()


def test_total():
    with lock:
        with lock:
            pass


test_total()
