from querywatch.exporters.places import Places


def test_gives_places_in_the_order_of_asking_and_never_takes_one_back():
    places = Places(2)
    assert [places.holds(key) for key in ("a", "b", "c", "a", "c", "b")] == [True, True, False, True, False, True]
