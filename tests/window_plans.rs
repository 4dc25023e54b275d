//! Training cuts histories into the same windows as the program: `models/training/plan.py` wrote the file.

use serde::Deserialize;
use throughline::window::{Item, Piece, WindowSpec, choose_carried, plan};

#[derive(Deserialize)]
struct Example {
    window_tokens: usize,
    /// Tokens of the text, of what is around it, of the gap note.
    items: Vec<[usize; 3]>,
    weights: Vec<f32>,
    windows: Vec<Written>,
}

/// Context as (item, start, end), fresh items, carried items.
#[derive(Deserialize)]
struct Written(Vec<(usize, usize, usize)>, Vec<usize>, Vec<usize>);

fn bounds(pieces: &[Piece]) -> Vec<(usize, usize, usize)> {
    pieces.iter().map(|piece| (piece.item, piece.content.start, piece.content.end)).collect()
}

#[test]
fn training_windows_are_the_programs() {
    let text = std::fs::read_to_string("models/training/window-plans.json").unwrap();
    let examples: Vec<Example> = serde_json::from_str(&text).unwrap();
    assert!(examples.iter().any(|example| example.windows.len() > 3), "long histories are among them");
    for Example { window_tokens, items, weights, windows } in examples {
        let item =
            |[content_tokens, wrap_tokens, gap_tokens]: [usize; 3]| Item { content_tokens, wrap_tokens, gap_tokens };
        let items: Vec<Item> = items.into_iter().map(item).collect();
        let planned = plan(&items, &WindowSpec::with_tokens(window_tokens)).unwrap().windows;
        assert_eq!(planned.len(), windows.len());
        for (window, Written(context, fresh, carried)) in planned.iter().zip(windows) {
            assert_eq!(bounds(&window.context), context);
            let whole = |item: usize| (item, 0, items[item].content_tokens);
            assert_eq!(bounds(&window.fresh), fresh.into_iter().map(whole).collect::<Vec<_>>());
            assert_eq!(choose_carried(&items, &weights, window.first_item(), window.carried_tokens_max), carried);
        }
    }
}
