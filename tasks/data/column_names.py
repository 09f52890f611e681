"""Usual column names of data sets."""

import re

# fmt: off
# Label columns of published data sets and annotation tools, the most specific first.
LABEL_COLUMNS = (
    "label", "labels", "gold_label", "class", "classes", "category", "categories", "target", "intent", "topic",
    "topics", "sentiment", "emotion", "emotions", "polarity", "stars", "rating", "quality", "is_duplicate",
    "similarity", "similarity_score", "relatedness_score", "score", "coarse_label", "label_text", "label_name",
    # in other languages
    "Kategorie", "Klasse", "étiquette", "catégorie", "classe", "etiqueta", "categoría", "categoria", "clase",
    "etichetta", "categorie", "etykieta", "kategoria", "метка", "категория", "标签", "类别", "ラベル", "라벨",
)

# Other names that identify a first row as a header.
COMMON_COLUMNS = (
    "id", "idx", "index", "guid", "text", "texts", "text1", "text2", "text_a", "text_b", "sentence", "sentence1",
    "sentence2", "premise", "hypothesis", "question", "question1", "question2", "context", "passage", "query",
    "answer", "answers", "review", "content", "comment", "comment_text", "message", "body", "title", "tweet",
    "document", "article", "utterance", "headline", "description", "summary", "prompt", "response", "source",
    "tokens", "words", "token", "word", "tag", "tags", "ner_tags", "spans", "entities", "tokenized_text",
    "pair", "anchor", "positive", "negative", "#1 String", "#2 String", "question_text", "paragraph",
    "sent1", "sent2", "ctx", "goal", "question_stem", "choices", "options", "endings",
    "instruction", "input", "output", "completion", "chosen", "rejected", "subject", "comments", "sentences",
    "inputs", "input_text", "src", "source_text", "dialogue", "report", "outputs", "output_text", "tgt", "target_text",
    "targets", "reference", "references", "highlights", "abstract", "story",
)

# The same in other languages of spreadsheets.
FOREIGN_COLUMNS = (
    "Kommentar", "Nachricht", "Satz", "Frage", "Antwort", "Titel", "Betreff", "Bewertung", "Urteil",
    "texte", "commentaire", "phrase", "titre", "avis", "note", "sujet", "texto", "comentario", "frase", "título",
    "opinión", "mensaje", "testo", "commento", "titolo", "tekst", "zin", "vraag", "antwoord", "zdanie",
    "текст", "文本", "内容", "评论", "テキスト", "텍스트",
)
# fmt: on

# The second column of published pairs of texts, by the first (QNLI, BoolQ, fact checking, retrieval, stance, ...).
PARTNERS = {
    "question": ("sentence", "answer", "passage", "context", "paragraph"),
    "query": ("passage", "document", "text", "answer", "response"),
    "claim": ("evidence",),
    "context": ("response",),
    "anchor": ("positive",),
    "headline": ("articleBody", "body"),
}
NUMBERS = (("1", "2"), ("0", "1"), ("first", "second"), ("left", "right"))


def second_names(first: str) -> tuple[str, ...]:
    """The normalized names of the second column of a pair: "sentence2" for "Sentence 1", "text2" for "text", ..."""
    name = normalize_name(first)
    numbered = (name.replace(one, two, 1) for one, two in NUMBERS if one in name)
    lettered = (name[:-1] + "b",) if name.endswith("a") else ()
    others = (f"{name}2", f"{name}1", f"second{name}", f"other{name}") if name[-1:].isalpha() else ()
    return (*numbered, *lettered, *others, *map(normalize_name, PARTNERS.get(name, ())))


def normalize_name(name: str) -> str:
    """A column name without case, spaces and the characters _, #, . and -, for comparison."""
    return re.sub(r"[\s_#.-]", "", name).casefold()


KNOWN_COLUMNS = frozenset(normalize_name(name) for name in (*LABEL_COLUMNS, *COMMON_COLUMNS, *FOREIGN_COLUMNS))
