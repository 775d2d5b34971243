//! Times the pure pieces that every message passes: `cargo bench --bench hot`.

mod pieces;

use criterion::{Criterion, criterion_group, criterion_main};

fn hot(criterion: &mut Criterion) {
    for mut piece in pieces::pieces() {
        criterion.bench_function(piece.name, |bencher| bencher.iter(&mut piece.run));
    }
}

criterion_group!(benches, hot);
criterion_main!(benches);
