from tests.training.starter.made_up import write_wordnet
from training.starter.wordnet import WordNet


def test_meanings_are_of_the_first_common_noun_one_can_see(tmp_path):
    wordnet = write_wordnet(tmp_path)
    assert wordnet.meaning("Lion").gloss == "large cat"
    assert wordnet.meaning("lions").synonyms == ("king of beasts", "Leo leo")
    assert wordnet.meaning("old male lion (resting)").synonyms == ()
    assert wordnet.meaning("rex").gloss == "a grass"
    assert wordnet.meaning("idea") is None
    assert wordnet.meaning("This is a sentence of a lion") is None


def test_wordnet_need_not_be_there(tmp_path):
    assert WordNet.where_fetched(tmp_path) is None
    write_wordnet(tmp_path)
    assert WordNet.where_fetched(tmp_path).meaning("lion").gloss == "large cat"
