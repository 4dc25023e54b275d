//! Windows: a history cut into overlapping runs of whole messages under a token budget.
//!
//! Pure arithmetic on token counts. It must not know IO, the clock, tensors, or what a message
//! says: an [`Item`] is a message's cost. Which earlier messages are carried into a window is
//! decided by weights the caller gives ([`choose_carried`]); everything else depends on lengths
//! alone, so the plan of a history is the same whatever the scores turn out to be.
//!
//! ```text
//! |  carried evidence  |  context: ≥ K messages already scored  |  fresh: scored in this window  |
//! ```
//!
//! Nothing is cut: a message too long for a window is split into parts, each of them fresh in some
//! window; only as *context* may a long message be shortened to its end, and the plan counts both.

use std::ops::Range;

/// What a plan keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    /// Tokens of a whole window.
    pub tokens_max: usize,
    /// At least so many messages (or all there are) stand before every fresh message: K.
    pub context_messages_min: usize,
    /// Context goes on beyond K messages while it stays within so many tokens.
    pub context_tokens_max: usize,
    /// Tokens kept free for carried evidence in every window but the first.
    pub carried_tokens_max: usize,
    /// Tokens kept free for what the guard writes around the messages.
    pub overhead_tokens: usize,
}

impl WindowSpec {
    /// A spec whose parts are in the proportions the embedded model was trained with.
    pub fn with_tokens(tokens_max: usize) -> Self {
        Self {
            tokens_max,
            context_messages_min: 8,
            context_tokens_max: tokens_max / 4,
            carried_tokens_max: tokens_max / 4,
            overhead_tokens: 48,
        }
    }

    /// # Errors
    /// When no token would be left for fresh messages, or a context message would have none.
    pub fn check(&self) -> Result<(), WindowError> {
        let needed = self.carried_tokens_max + self.context_tokens_max + self.overhead_tokens + FRESH_TOKENS_MIN;
        if self.tokens_max < needed {
            return Err(WindowError::TooSmall { tokens_max: self.tokens_max, needed });
        }
        if self.context_tokens_max < self.context_messages_min * CONTEXT_MESSAGE_TOKENS_MIN {
            return Err(WindowError::ContextTooSmall {
                context_tokens_max: self.context_tokens_max,
                needed: self.context_messages_min * CONTEXT_MESSAGE_TOKENS_MIN,
            });
        }
        Ok(())
    }

    pub(crate) fn fresh_tokens_max(&self) -> usize {
        self.tokens_max - self.carried_tokens_max - self.context_tokens_max - self.overhead_tokens
    }
}

/// Fewer fresh tokens a window than this are refused.
const FRESH_TOKENS_MIN: usize = 64;
/// The least of a context message that must fit, wrapping included.
const CONTEXT_MESSAGE_TOKENS_MIN: usize = 24;

/// Why a spec is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error(
        "a window of {tokens_max} tokens is too small: carried evidence, context and wrapping need {needed}; hint: raise --window-tokens"
    )]
    TooSmall { tokens_max: usize, needed: usize },
    #[error(
        "{context_tokens_max} context tokens are too few for K messages, at least {needed}; hint: raise --window-tokens"
    )]
    ContextTooSmall { context_tokens_max: usize, needed: usize },
}

/// A message's cost in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Its text.
    pub content_tokens: usize,
    /// What is written around it: role, end marks.
    pub wrap_tokens: usize,
    /// The gap mark in front of it, when it is the first of its session; else 0.
    pub gap_tokens: usize,
}

/// A message, or a part of a long one: the tokens `content` of item `item`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub item: usize,
    pub content: Range<usize>,
}

/// One window of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Messages that were fresh in an earlier window, in order. A long one may be shortened to its end.
    pub context: Vec<Piece>,
    /// What this window scores, in order.
    pub fresh: Vec<Piece>,
    /// Tokens left for carried evidence.
    pub carried_tokens_max: usize,
}

impl Window {
    /// The first item whose text stands in the window itself (carried evidence lies before it).
    pub fn first_item(&self) -> usize {
        self.context.first().or(self.fresh.first()).map_or(0, |piece| piece.item)
    }
}

/// The windows of a history, and what had to be done to fit it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub windows: Vec<Window>,
    /// Messages longer than a window's fresh part, scored in parts and pooled.
    pub split_messages: usize,
    /// Times a long message was shortened to its end as context of a later window.
    pub shortened_contexts: usize,
}

/// Cuts a history. Every item is fresh exactly once (all its parts, in order), with at least
/// `context_messages_min` items, or all there are, before it in its window.
///
/// # Errors
/// When the spec leaves no room ([`WindowSpec::check`]).
pub fn plan(items: &[Item], spec: &WindowSpec) -> Result<Plan, WindowError> {
    let mut planner = Planner::new(*spec)?;
    let mut windows: Vec<Window> = Vec::new();
    for item in items {
        for step in planner.push(*item) {
            match step {
                Step::Opens(window) => windows.push(window),
                Step::Goes(piece) => windows.last_mut().into_iter().for_each(|open| open.fresh.push(piece.clone())),
            }
        }
    }
    let Planner { split_messages, shortened_contexts, .. } = planner;
    Ok(Plan { windows, split_messages, shortened_contexts })
}

/// Where the next piece of a growing history goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A window opens with it; the one before it is closed.
    Opens(Window),
    /// It is fresh in the window that is open.
    Goes(Piece),
}

/// The plan of a history that grows: what was planned stays as it was, so that a message a time comes to the same windows as all
/// at once.
#[derive(Debug, Clone)]
pub struct Planner {
    spec: WindowSpec,
    items: Vec<Item>,
    /// Fresh tokens of the open window, and how many it takes; none is open before the first item.
    open: Option<(usize, usize)>,
    pub split_messages: usize,
    pub shortened_contexts: usize,
}

impl Planner {
    /// # Errors
    /// When the spec leaves no room ([`WindowSpec::check`]).
    pub fn new(spec: WindowSpec) -> Result<Self, WindowError> {
        spec.check()?;
        Ok(Self { spec, items: Vec::new(), open: None, split_messages: 0, shortened_contexts: 0 })
    }

    /// The items so far.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Takes in the next item; where its pieces go, in order.
    pub fn push(&mut self, item: Item) -> Vec<Step> {
        let index = self.items.len();
        self.items.push(item);
        let pieces = split(index, &item, &self.spec);
        self.split_messages += usize::from(pieces.len() > 1);
        pieces.into_iter().map(|piece| self.place(piece, item)).collect()
    }

    fn place(&mut self, piece: Piece, item: Item) -> Step {
        let tokens = piece.content.len() + item.wrap_tokens + item.gap_tokens;
        if let Some((used, room)) = &mut self.open
            && *used + tokens <= *room
        {
            *used += tokens;
            return Step::Goes(piece);
        }
        // The first window has no context and nothing carried: their room is its own.
        let (carried_tokens_max, room) = match self.open {
            None => (0, self.spec.tokens_max - self.spec.overhead_tokens),
            Some(_) => (self.spec.carried_tokens_max, self.spec.fresh_tokens_max()),
        };
        self.open = Some((tokens, room));
        let context = context_before(&self.items, &piece, &self.spec);
        self.shortened_contexts += context.iter().filter(|piece| piece.content.start > 0).count();
        Step::Opens(Window { context, fresh: vec![piece], carried_tokens_max })
    }
}

/// An item as one piece, or as parts of nearly equal length when it is too long for a window.
fn split(index: usize, item: &Item, spec: &WindowSpec) -> Vec<Piece> {
    let room = spec.fresh_tokens_max().saturating_sub(item.wrap_tokens + item.gap_tokens).max(1);
    let parts = item.content_tokens.div_ceil(room).max(1);
    let bound = |part: usize| item.content_tokens * part / parts;
    (0..parts).map(|part| Piece { item: index, content: bound(part)..bound(part + 1) }).collect()
}

/// The items before a window's first fresh piece that it repeats: K at least, more while they fit.
///
/// When the piece is a later part of a split message, the message's earlier tokens count as one.
fn context_before(items: &[Item], first: &Piece, spec: &WindowSpec) -> Vec<Piece> {
    let own = (first.content.start > 0).then_some(Piece { item: first.item, content: 0..first.content.start });
    let count = usize::from(own.is_some()) + first.item;
    let before = (0..first.item).rev().map(|item| Piece { item, content: 0..items[item].content_tokens });

    let must = spec.context_messages_min.min(count);
    // The share of the budget each of the K may take at most, so that all of them always fit.
    let share = spec.context_tokens_max / spec.context_messages_min.max(1);
    let mut used = 0;
    let mut context = Vec::new();
    for (offset, piece) in own.into_iter().chain(before).enumerate() {
        let item = &items[piece.item];
        let around = item.wrap_tokens + item.gap_tokens;
        let tokens = piece.content.len() + around;
        if offset < must {
            // Whole, if the others of the K still fit at their share; else its end.
            // What is written around a message may be more than its share.
            let room = spec.context_tokens_max.saturating_sub(used + share * (must - offset - 1));
            let keep = piece.content.len().min(room.saturating_sub(around));
            used += keep + around;
            context.push(Piece { item: piece.item, content: piece.content.end - keep..piece.content.end });
        } else if used + tokens <= spec.context_tokens_max {
            used += tokens;
            context.push(piece);
        } else {
            break;
        }
    }
    context.reverse();
    context
}

/// Which earlier items are carried into a window as evidence: those of the greatest weight that
/// fit, in the order of time. Items of weight 0 are not evidence; ties go to the later item.
///
/// `weights[i]` is the evidence of item `i`; only items before `before` can be carried.
pub fn choose_carried(items: &[Item], weights: &[f32], before: usize, tokens_max: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..before.min(items.len())).filter(|&item| weights[item] > 0.0).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(b.cmp(&a)));
    let mut used = 0;
    let mut carried: Vec<usize> = Vec::new();
    for item in order {
        let tokens = items[item].content_tokens + items[item].wrap_tokens;
        if used + tokens <= tokens_max {
            used += tokens;
            carried.push(item);
        }
    }
    carried.sort_unstable();
    carried
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let item = (0usize..400, any::<bool>(), 0u8..20).prop_map(|(tokens, first, long)| Item {
            content_tokens: if long == 0 { tokens * 20 } else { tokens },
            wrap_tokens: 5,
            gap_tokens: if first { 12 } else { 0 },
        });
        prop::collection::vec(item, 0..120)
    }

    fn tokens(window: &Window, items: &[Item]) -> usize {
        let all = window.context.iter().chain(&window.fresh);
        all.map(|p| p.content.len() + items[p.item].wrap_tokens + items[p.item].gap_tokens).sum()
    }

    proptest! {
        #[test]
        fn every_message_is_fresh_once_and_whole(items in items(), budget in 320usize..4096) {
            let spec = WindowSpec::with_tokens(budget);
            prop_assume!(spec.check().is_ok());
            let plan = plan(&items, &spec).unwrap();
            let fresh: Vec<&Piece> = plan.windows.iter().flat_map(|w| &w.fresh).collect();
            let mut at = vec![0; items.len()];
            let mut last = 0;
            for piece in fresh {
                prop_assert!(piece.item >= last, "order");
                prop_assert_eq!(piece.content.start, at[piece.item], "no gap, no repeat");
                at[piece.item] = piece.content.end;
                last = piece.item;
            }
            let lengths: Vec<usize> = items.iter().map(|i| i.content_tokens).collect();
            prop_assert_eq!(at, lengths);
        }

        #[test]
        fn every_message_has_k_messages_before_it(items in items(), budget in 320usize..4096) {
            let spec = WindowSpec::with_tokens(budget);
            prop_assume!(spec.check().is_ok());
            let plan = plan(&items, &spec).unwrap();
            for window in &plan.windows {
                let present: Vec<usize> = window.context.iter().chain(&window.fresh).map(|p| p.item).collect();
                for piece in &window.fresh {
                    let before = present.iter().filter(|&&item| item < piece.item).count();
                    let wanted = spec.context_messages_min.min(piece.item);
                    // A later part of a split message has its own beginning as one of the K.
                    let own = usize::from(piece.content.start > 0 && before + 1 == wanted);
                    prop_assert!(before + own >= wanted, "item {} has {before} before it", piece.item);
                }
            }
        }

        #[test]
        fn no_window_is_over_its_budget(items in items(), budget in 320usize..4096) {
            let spec = WindowSpec::with_tokens(budget);
            prop_assume!(spec.check().is_ok());
            let plan = plan(&items, &spec).unwrap();
            for window in &plan.windows {
                let used = tokens(window, &items) + window.carried_tokens_max + spec.overhead_tokens;
                prop_assert!(used <= spec.tokens_max, "{used} of {}", spec.tokens_max);
            }
        }

        /// Whoever reads a history as it grows may let go of what stands before a window.
        #[test]
        fn no_window_reaches_back_before_the_one_before_it(items in items(), budget in 320usize..4096, k in 1usize..12) {
            let spec = WindowSpec { context_messages_min: k, ..WindowSpec::with_tokens(budget) };
            prop_assume!(spec.check().is_ok());
            let plan = plan(&items, &spec).unwrap();
            for pair in plan.windows.windows(2) {
                prop_assert!(pair[0].first_item() <= pair[1].first_item(), "{:?}", pair);
            }
        }

        #[test]
        fn carried_evidence_fits_and_is_in_order(
            items in items(), weights in prop::collection::vec(0.0f32..1.0, 120), budget in 0usize..600,
        ) {
            let carried = choose_carried(&items, &weights, 60, budget);
            prop_assert!(carried.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(carried.iter().all(|&item| item < 60));
            let used: usize = carried.iter().map(|&i| items[i].content_tokens + items[i].wrap_tokens).sum();
            prop_assert!(used <= budget);
        }
    }

    #[test]
    fn a_long_message_is_split_and_counted() {
        let long = Item { content_tokens: 5_000, wrap_tokens: 5, gap_tokens: 0 };
        let plan = plan(&[long, long], &WindowSpec::with_tokens(2_048)).unwrap();
        assert_eq!(plan.split_messages, 2);
        assert!(plan.shortened_contexts > 0);
    }

    #[test]
    fn an_impossible_budget_is_refused_with_numbers() {
        let error = plan(&[], &WindowSpec::with_tokens(64)).unwrap_err().to_string();
        assert!(error.contains("64") && error.contains("hint"), "{error}");
    }

    #[test]
    fn the_heaviest_evidence_is_carried_first() {
        let item = Item { content_tokens: 10, wrap_tokens: 0, gap_tokens: 0 };
        assert_eq!(choose_carried(&[item; 4], &[0.1, 0.9, 0.0, 0.5], 4, 20), vec![1, 3]);
    }
}
