"""A program of a user, which a type checker in strict mode accepts: .ci/step types checks it against the package."""

from headway.core.errors import HeadwayError
from headway.core.training.training_config import TrainConfig
from headway.tasks import Embedder, Prompt, TextClassification, load

try:
    trained = TextClassification().on("mini-bert").fit("train.csv", output="runs/made", config=TrainConfig(epochs=1))
    scores = {name: round(value, 3) for name, value in trained.metrics.items()}
    print(scores, load("runs/made", device="cpu").predict("Where is my parcel?"))
    prompt = Prompt(labels=("good", "bad"))
    vectors = Embedder("mini-bert").embed(["a text", "another"])
    print(prompt.labels, vectors.shape)
except HeadwayError as error:
    print(error)
