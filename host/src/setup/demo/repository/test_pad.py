import unittest

from pad import pad


class Pad(unittest.TestCase):
    def test_a_short_text_is_filled(self):
        self.assertEqual(pad("7", 3), "  7")

    def test_a_long_text_stays(self):
        self.assertEqual(pad("long", 3), "long")

    def test_an_empty_text_is_filled_too(self):
        self.assertEqual(pad("", 3), "   ")


if __name__ == "__main__":
    unittest.main()
