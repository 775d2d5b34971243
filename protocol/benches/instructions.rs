//! Runs one of the pure pieces a number of times, for `scripts/instructions` to count its instructions under callgrind.
//!
//! Without arguments it prints the names of all.

mod pieces;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let pieces = pieces::pieces();
    let Some(name) = arguments.next() else {
        for piece in pieces {
            println!("{}", piece.name);
        }
        return;
    };
    let rounds: u64 = arguments
        .next()
        .and_then(|rounds| rounds.parse().ok())
        .expect("the second argument is a number of rounds");
    let mut found = pieces
        .into_iter()
        .find(|piece| piece.name == name)
        .expect("the first argument is the name of a piece");
    for _ in 0..rounds {
        (found.run)();
    }
}
