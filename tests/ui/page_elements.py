"""The elements and the text of HTML, and a text that tries to inject some."""

from html.parser import HTMLParser

HOSTILE = "</iframe></script><script>alert(1)</script> <img src=x onerror=alert(2)> \"' & ${alert(3)} {{x}} ` ]]> 🙂"


class Page(HTMLParser):
    """The elements, the text and the attributes of a piece of HTML."""

    def __init__(self, drawn: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(drawn)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]
