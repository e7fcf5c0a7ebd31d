from ifam.data.account import Account, Entry, Fate, account_of


def left_out(**counts: int) -> Entry:
    return Entry(fate=Fate.LEFT_OUT, reason="of suffixes that are not read", counts=counts)


def test_an_empty_account_says_nothing() -> None:
    assert not Account()
    assert Account().line() == ""
    assert not account_of([left_out(heic=0)])


def test_counts_of_one_fate_and_reason_add_up() -> None:
    both = account_of([left_out(heic=2, none=1)]) + account_of([left_out(heic=3)])
    assert both.count(Fate.LEFT_OUT) == 6
    assert both.to_list() == [
        {"fate": "left out", "reason": "of suffixes that are not read", "counts": {"heic": 5, "none": 1}}
    ]


def test_a_line_names_fates_in_order_and_the_largest_kinds_first() -> None:
    linked = Entry(fate=Fate.LINKED, reason="through links", counts={"disc/more": 8})
    counts = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    found = account_of([linked, left_out(**counts), Entry(fate=Fate.LEFT_OUT, reason="in trash", counts={"bin": 1})])
    assert found.line() == (
        "left out 16: 15 of suffixes that are not read (e 5, d 4, c 3, b 2 and 1 more), 1 in trash (bin 1); "
        "linked 8: 8 through links (disc/more 8)"
    )
