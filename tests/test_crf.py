"""CTC-CRF over pronunciations: the sums are those over all paths, the gradients theirs, in C and in torch."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.errors import ConfigError, DataError, ModelError
from asr.train import crf, crf_torch
from asr.train.compile_c import compiled
from asr.train.phone_graph import PhoneGraph, Word
from asr.train.phone_lm import PhoneLm, count_trigrams

BATCHES: list[list[list[Word]]] = [
    [[((1,),), ((2, 3), (2,))], [((1, 1),)], []],
    [[((3, 3), (1, 2))], [((1,), (2,)), ((2,), (1,))]],
    [[((1, 2, 1),), ((1,),)], [((2,), (3,), (1,))]],
]


@pytest.fixture(params=["c", "torch"])
def kernel(request, monkeypatch) -> str:
    """Both ways of making the sums; the CPU would always take the first."""
    if request.param == "torch":
        monkeypatch.setattr(crf, "_add_shares", crf_torch.add_shares)
    return request.param


@pytest.fixture(scope="module")
def phone_lm() -> PhoneLm:
    return random_lm(39)


def random_lm(phonemes: int, length: int = 4000) -> PhoneLm:
    """Of a text with a taste of its own: some phonemes, and some pairs, are far more frequent than others."""
    rng = np.random.default_rng(phonemes)
    return PhoneLm.estimate((rng.geometric(0.15, length) + np.arange(length) % 3) % (phonemes + 1), phonemes)


def random_texts(rng: np.random.Generator, lines: int, most: int) -> list[list[Word]]:
    def word() -> Word:
        return tuple({tuple(rng.integers(1, 40, rng.integers(1, 5)).tolist()) for _ in range(rng.integers(1, 4))})

    return [[word() for _ in range(rng.integers(0, most))] for _ in range(lines)]


def graphs_of(texts: list[list[Word]]) -> list[PhoneGraph]:
    return [PhoneGraph.of(words) for words in texts]


def reading(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token)


def every_path(logits: Tensor, texts: list[list[Word]], steps: list[int], lm: PhoneLm) -> tuple[Tensor, Tensor]:
    """Numerators and denominators by definition, path after path."""
    numerators, denominators = [], []
    for line, words, count in zip(logits.log_softmax(-1), texts, steps, strict=True):
        readings = {tuple(itertools.chain(*choice)) for choice in itertools.product(*words)}
        paths = list(itertools.product(range(line.shape[1]), repeat=count))
        scores = line[torch.arange(count), torch.tensor(paths)].sum(dim=1)
        right = torch.tensor([reading(path) in readings for path in paths])
        weights = torch.tensor([log_weight(reading(path), lm) for path in paths])
        numerators.append(torch.where(right, scores, -math.inf).logsumexp(0) if right.any() else scores[0] - math.inf)
        denominators.append((scores + weights).logsumexp(0))
    return torch.stack(numerators), torch.stack(denominators)


def log_weight(phones: tuple[int, ...], lm: PhoneLm) -> float:
    """What the trigram gives to a text that begins with these phonemes."""
    histories = zip((0, 0, *phones), (0, *phones), phones, strict=False)
    return sum(math.log(lm.probabilities[history]) for history in histories)


@pytest.mark.parametrize("texts", BATCHES)
@pytest.mark.parametrize("steps", [3, 5])
def test_the_sums_are_those_over_all_paths(kernel, texts, steps) -> None:
    """With three phonemes, numerator, denominator and the loss's gradient are those of every path written out: repeated
    phonemes, several pronunciations, an empty text, lines of different lengths, a text that does not fit."""
    lm = random_lm(3, 60)
    logits = torch.randn(len(texts), steps, 4, generator=torch.Generator().manual_seed(steps)) * 2
    lengths = [steps - b for b in range(len(texts))]
    exact = logits.double().requires_grad_()
    numerators, denominators = every_path(exact, texts, lengths, lm)
    fits = torch.isfinite(numerators)
    expected = (0.7 * denominators - 1.2 * numerators)[fits].sum()
    expected.backward()  # type: ignore[no-untyped-call]
    given_logits = logits.clone().requires_grad_()
    loss, ours, ours_below = crf.crf_parts(
        given_logits, torch.tensor(lengths), graphs_of(texts), lm, weight=0.7, ctc_weight=0.2, prune=0.0
    )
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours, numerators.detach().double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours_below[fits], denominators.detach()[fits], rtol=1e-5, atol=1e-5)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    assert exact.grad is not None
    assert given_logits.grad is not None
    torch.testing.assert_close(given_logits.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)


def test_with_one_pronunciation_a_word_it_is_ctc(kernel) -> None:
    """Without a denominator, loss and gradient are `ctc_loss`'s, with repeated phonemes and texts that just fit, or do
    not."""
    rng = np.random.default_rng(7)
    steps = torch.tensor([60, 50, 1, 30, 7, 20, 60])
    texts = [rng.integers(1, 40, count).tolist() for count in (20, 12, 1, 33, 0, 20, 9)]
    texts[5] = list(range(1, 21))  # one path only
    texts[6] = [5] * 9
    words = [[(tuple(text[k : k + 3]),) for k in range(0, len(text), 3)] for text in texts]
    logits = torch.randn(7, 60, 40, generator=torch.Generator().manual_seed(3)) * 3
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    targets, lengths = torch.tensor(list(itertools.chain(*texts))), torch.tensor([len(text) for text in texts])
    log_probs = F.log_softmax(theirs, dim=-1).transpose(0, 1)
    expected = F.ctc_loss(log_probs, targets, steps, lengths, reduction="sum", zero_infinity=True)
    loss = crf.ctc_loss(ours, steps, graphs_of(words))
    (2 * loss).backward()  # type: ignore[no-untyped-call]
    (2 * expected).backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert not ours.grad[3].any()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=2e-4 if kernel == "torch" else 1e-5, rtol=1e-4)


@pytest.mark.parametrize("spare", [0, 40])
def test_a_long_line_with_little_time_for_its_text_is_summed(kernel, spare) -> None:
    """Five hundred phonemes in hardly more steps: the few paths that fit are found among countless others."""
    text = [1 + k % 39 for k in range(500)]
    steps = len(text) + spare
    logits = torch.randn(1, steps, 40, generator=torch.Generator().manual_seed(spare))
    log_probs = F.log_softmax(logits.double(), dim=-1).transpose(0, 1)
    expected = F.ctc_loss(log_probs, torch.tensor([text]), torch.tensor([steps]), torch.tensor([500]), reduction="sum")
    loss = crf.ctc_loss(logits, torch.tensor([steps]), [PhoneGraph.of([((phone,),) for phone in text])])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_network_that_hears_only_silence_still_learns_a_long_text(kernel) -> None:
    """Where every phoneme is next to impossible, as early in training, loss and gradient are still `ctc_loss`'s."""
    text = [1 + k % 39 for k in range(180)]
    logits = torch.randn(1, 500, 40, generator=torch.Generator().manual_seed(6))
    logits[:, :, 0] += 15
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    log_probs = F.log_softmax(theirs, dim=-1).transpose(0, 1)
    expected = F.ctc_loss(log_probs, torch.tensor([text]), torch.tensor([500]), torch.tensor([180]), reduction="sum")
    expected.backward()  # type: ignore[no-untyped-call]
    loss = crf.ctc_loss(ours, torch.tensor([500]), [PhoneGraph.of([((phone,),) for phone in text])])
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=2e-3 if kernel == "torch" else 1e-5, rtol=1e-3)


def test_the_gradient_is_the_losss_slope(kernel, phone_lm) -> None:
    """Along random directions the loss changes as its gradient says."""
    generator = torch.Generator().manual_seed(11)
    texts = random_texts(np.random.default_rng(4), 3, 4)
    steps, graphs = torch.tensor([25, 18, 30]), graphs_of(texts)
    logits = (torch.randn(3, 30, 40, generator=generator) * 2).requires_grad_()
    crf.crf_loss(logits, steps, graphs, phone_lm, prune=0.0).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    for _ in range(4):
        way = torch.randn(logits.shape, generator=generator)
        way /= way.norm()
        ahead, behind = (
            crf.crf_loss(logits.detach() + sign * 0.1 * way, steps, graphs, phone_lm, prune=0.0) for sign in (1, -1)
        )
        slope = float((logits.grad * way).sum())
        assert (ahead - behind).item() / 0.2 == pytest.approx(slope, rel=0.02, abs=0.01)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), scale=st.floats(0, 12), steps=st.integers(1, 30))
def test_a_denominator_is_never_above_zero(seed, scale, steps) -> None:
    """All paths together have at most probability one, and with their weights no more."""
    logits = torch.randn(1, steps, 40, generator=torch.Generator().manual_seed(seed)) * scale
    for prune in (0.0, 1e-6):
        _, _, below = crf.crf_parts(logits, torch.tensor([steps]), graphs_of([[]]), random_lm(39), prune=prune)
        assert -100 * steps < below.item() < 1e-5


def test_a_line_counts_the_same_alone_and_in_any_batch(kernel, phone_lm) -> None:
    """Lines of different lengths give their own losses and gradients added up, with nothing beyond a line's steps."""
    steps = torch.tensor([20, 3, 31, 12, 26])
    graphs = graphs_of(random_texts(np.random.default_rng(2), 5, 4))
    logits = (torch.randn(5, 31, 40, generator=torch.Generator().manual_seed(1)) * 2).requires_grad_()
    loss = crf.crf_loss(logits, steps, graphs, phone_lm)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    total = 0.0
    for b, count in enumerate(steps.tolist()):
        alone = logits.detach()[b : b + 1, :count].clone().requires_grad_()
        part = crf.crf_loss(alone, steps[b : b + 1], graphs[b : b + 1], phone_lm)
        part.backward()  # type: ignore[no-untyped-call]
        total += part.item()
        assert alone.grad is not None
        torch.testing.assert_close(logits.grad[b, :count], alone.grad[0], atol=1e-5, rtol=1e-4)
        assert not logits.grad[b, count:].any()
    assert loss.item() == pytest.approx(total, rel=1e-5)


def test_both_kernels_agree_and_pruning_hardly_matters(monkeypatch, phone_lm) -> None:
    """On lines of a hundred steps C and torch give the same, and C with pruning a loss no further off than a thousandth
    and gradients than a hundredth."""
    graphs = graphs_of(random_texts(np.random.default_rng(9), 4, 12))
    steps = torch.tensor([100, 100, 64, 90])
    spikes = F.one_hot(torch.randint(0, 40, (4, 100), generator=torch.Generator().manual_seed(8)), 40)
    logits = torch.randn(4, 100, 40, generator=torch.Generator().manual_seed(9)) + 5 * spikes

    def results(prune: float) -> tuple[Tensor, Tensor, Tensor | None]:
        given_logits = logits.clone().requires_grad_()
        loss, above, below = crf.crf_parts(given_logits, steps, graphs, phone_lm, prune=prune)
        loss.backward()  # type: ignore[no-untyped-call]
        return above, below, given_logits.grad

    pruned, whole = results(1e-6), results(0.0)
    monkeypatch.setattr(crf, "_add_shares", crf_torch.add_shares)
    torch.testing.assert_close(results(0.0), whole, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(pruned[:2], whole[:2], atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(pruned[2], whole[2], atol=1e-2, rtol=0)


def test_threads_change_nothing(phone_lm) -> None:
    """With two threads every number is the same as with one."""
    graphs = graphs_of(random_texts(np.random.default_rng(3), 5, 6))
    logits = torch.randn(5, 40, 40, generator=torch.Generator().manual_seed(2))
    before, results = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        given_logits = logits.clone().requires_grad_()
        crf.crf_loss(given_logits, torch.full((5,), 40), graphs, phone_lm).backward()  # type: ignore[no-untyped-call]
        results.append(given_logits.grad)
    torch.set_num_threads(before)
    assert torch.equal(*results)


def test_a_text_that_does_not_fit_counts_nothing(kernel, phone_lm) -> None:
    """Neither loss nor gradient, denominator included; nor has a line without steps."""
    graphs = graphs_of([[((1, 1),)], [((1, 2),)], [((3,),)]])
    logits = torch.randn(3, 4, 40).requires_grad_()
    loss = crf.crf_loss(logits, torch.tensor([2, 1, 0]), graphs, phone_lm)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_logits_of_any_kind_get_gradients_of_their_kind(kernel, phone_lm) -> None:
    """A slice of bfloat16 logits has a bfloat16 gradient, as near float32's as its digits allow. What the network has
    ruled out still has one."""
    graphs = graphs_of(random_texts(np.random.default_rng(5), 2, 4))
    whole = torch.randn(2, 25, 50).to(torch.bfloat16).requires_grad_()
    crf.crf_loss(whole[:, 5:, :40], torch.tensor([20, 15]), graphs, phone_lm).backward()  # type: ignore[no-untyped-call]
    exact = whole.detach().float().requires_grad_()
    crf.crf_loss(exact[:, 5:, :40], torch.tensor([20, 15]), graphs, phone_lm).backward()  # type: ignore[no-untyped-call]
    assert whole.grad is not None
    assert exact.grad is not None
    assert whole.grad.dtype == torch.bfloat16
    torch.testing.assert_close(whole.grad.float(), exact.grad, atol=1e-3, rtol=1e-2)
    sure = torch.zeros(1, 6, 40)
    sure[:, :, 7] = 500.0  # no other phoneme has any probability left
    sure.requires_grad_()
    loss = crf.crf_loss(sure, torch.tensor([6]), graphs_of([[((3,),)]]), phone_lm)
    loss.backward()  # type: ignore[no-untyped-call]
    assert sure.grad is not None
    assert math.isfinite(loss.item())
    assert loss.item() > 0
    assert sure.grad[0, :, 3].sum() < -0.5  # it learns what it had ruled out


def test_the_best_path_is_the_likeliest_of_all() -> None:
    """Its probability is the largest of all paths that read as the text, and it says what is said, and when."""
    words: list[Word] = [((1, 2), (3,)), ((3,), (2, 1))]
    for seed in range(6):
        logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)) * 2
        scores = {
            path: sum(logits.log_softmax(-1)[t, token].item() for t, token in enumerate(path))
            for path in itertools.product(range(4), repeat=5)
            if reading(path) in {(1, 2, 3), (1, 2, 2, 1), (3, 3), (3, 2, 1)}
        }
        best = max(scores, key=lambda path: scores[path])
        found = crf.best_path(logits, PhoneGraph.of(words))
        assert found is not None
        assert found.log_probability == pytest.approx(scores[best], rel=1e-5)
        assert sum((words[w][choice] for w, choice in enumerate(found.choices)), ()) == reading(best)
        begins = [t for t in range(5) if best[t] and (t == 0 or best[t] != best[t - 1])]
        assert list(itertools.chain(*found.begins)) == begins
    assert crf.best_path(logits[:1], PhoneGraph.of([((1, 2),)])) is None


def test_wrong_sizes_are_refused(phone_lm) -> None:
    """Sizes that do not fit together are errors that say so, not wrong numbers."""
    logits, steps, graphs = torch.zeros(1, 5, 40), torch.tensor([5]), graphs_of([[((1,),)]])
    with pytest.raises(DataError, match="trigram has 4 symbols, the logits 40"):
        crf.crf_loss(logits, steps, graphs, random_lm(3, 60))
    with pytest.raises(DataError, match="needs a phoneme trigram"):
        crf.crf_loss(logits, steps, graphs)
    with pytest.raises(DataError, match="2 texts"):
        crf.ctc_loss(logits, steps, graphs * 2)
    with pytest.raises(DataError, match="steps must be from 0 to 5"):
        crf.ctc_loss(logits, steps + 1, graphs)
    for call in (lambda graph: crf.ctc_loss(logits, steps, [graph]), lambda graph: crf.best_path(logits[0], graph)):
        with pytest.raises(DataError, match="phoneme 41"):
            call(PhoneGraph.of([((41,),)]))
    for word in ((), ((),), ((0, 1),)):
        with pytest.raises(DataError, match="pronunciation"):
            PhoneGraph.of([word])


def test_without_a_compiler_it_says_so(monkeypatch, tmp_path) -> None:
    """No compiler, or a broken file, is an error that names the purpose."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "broken.c"
    source.write_text("this is no C\n")
    with pytest.raises(ConfigError, match=r"the test: .* cannot compile broken.c: .*error"):
        compiled(source, ["-O1"], "the test")
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(ConfigError, match="the test needs a C compiler: no no-such-compiler found"):
        compiled(source, ["-O1"], "the test")


def test_a_trigram_is_a_distribution_after_every_history(phone_lm) -> None:
    """Rows add up to one, all phonemes are possible, and none is the start."""
    assert phone_lm.probabilities.dtype == np.float32
    np.testing.assert_allclose(phone_lm.probabilities.sum(axis=-1), 1, atol=1e-6)
    assert (phone_lm.probabilities[:, :, 1:] > 0).all()
    assert not phone_lm.probabilities[:, :, 0].any()


def test_a_trigram_expects_what_it_saw() -> None:
    """After a history it gives most to what followed there, sentences begin afresh, and its text surprises it least."""
    text = np.array([1, 2, 3, 0, 1, 2, 3, 0, 0, 3, 1, 2] * 20)
    lm = PhoneLm.estimate(text, 3)
    assert lm.probabilities[1, 2].argmax() == 3
    assert lm.probabilities[0, 0].argmax() == 1
    assert lm.probabilities[0, 3].argmax() == 1
    assert 1 < lm.perplexity(text) < 1.5
    assert lm.perplexity(text[::-1]) > lm.perplexity(text)
    assert lm.perplexity(np.array([2, 2, 2])) > 3
    halves = count_trigrams(text[:124], 3) + count_trigrams(text[124:], 3)  # between sentences
    np.testing.assert_array_equal(PhoneLm.from_counts(halves).probabilities, lm.probabilities)


def test_a_trigram_can_be_kept(tmp_path, phone_lm) -> None:
    """Saved and loaded it is the same; another file, a damaged one or none is an error that says so."""
    path = tmp_path / "phones.safetensors"
    phone_lm.save(path)
    np.testing.assert_array_equal(PhoneLm.load(path).probabilities, phone_lm.probabilities)
    with pytest.raises(ModelError, match="cannot be read"):
        PhoneLm.load(tmp_path / "none")
    dataclasses.replace(phone_lm, probabilities=phone_lm.probabilities * 2).save(path)
    with pytest.raises(ModelError, match="add up to one"):
        PhoneLm.load(path)
    path.write_bytes(b"something else")
    with pytest.raises(ModelError, match="cannot be read"):
        PhoneLm.load(path)


def test_a_trigram_needs_phonemes() -> None:
    """A text without phonemes, or with ids that are none, is refused."""
    for text, message in (([0, 0], "empty"), ([], "empty"), ([1, 40], "1 to 39"), ([-1], "1 to 39")):
        with pytest.raises(DataError, match=message):
            PhoneLm.estimate(np.array(text, np.int64))
