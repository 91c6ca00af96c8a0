//! Every operator, forward and reverse, at the sizes it has in the shipped
//! model: T' 82, D 144, 4 heads, 24 explained tokens.
//!
//! Throughput is in floating-point operations (reported as elements) for
//! products and attention, in bytes read and written for the rest. A large
//! product through `gemm` alone is measured beside them: the peak.

mod common;

use std::sync::Arc;

use common::operators::{Bench, OPERATORS, numbers};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sonograd::engine::native::linalg::{Matrix, MatrixMut, multiply};
use sonograd::engine::profile::Purpose;
use sonograd::engine::tensor::Scalars;
use sonograd::engine::weights::WeightTable;

fn operators(criterion: &mut Criterion) {
    for mut executor in common::executors(&Arc::new(WeightTable::default())) {
        let name = executor.name();
        for (operator, build) in OPERATORS {
            let mut bench = Bench::new(executor.as_mut());
            let operations = build(&mut bench);
            let throughput = match operations {
                0 => Throughput::Bytes(bench.bytes),
                operations => Throughput::Elements(operations),
            };
            let Bench {
                executor,
                recording,
                owned,
                ..
            } = bench;
            let last = *owned.last().unwrap();
            let plan = executor.prepare(recording).unwrap();
            let mut group = criterion.benchmark_group(*operator);
            group.throughput(throughput);
            group.bench_function(BenchmarkId::from_parameter(&name), |bencher| {
                bencher.iter_custom(|count| {
                    let begin = std::time::Instant::now();
                    for _ in 0..count {
                        executor.run(plan, 0, &Scalars::ZERO).unwrap();
                    }
                    // Waits until the device has done it all.
                    executor.read(&[last], Purpose::OTHER).unwrap();
                    begin.elapsed()
                });
            });
            group.finish();
            executor.release(plan);
            owned.into_iter().for_each(|id| executor.free(id));
        }
    }
}

/// What `gemm` reaches on one and on all cores: the native executor's limit.
fn peak(criterion: &mut Criterion) {
    let size = 1024;
    let (a, b) = (numbers(size * size), numbers(size * size));
    let mut y = vec![0.0f32; size * size];
    let mut group = criterion.benchmark_group("gemm_peak");
    group.throughput(Throughput::Elements(2 * (size as u64).pow(3)));
    for (name, parallel) in [("one core", false), ("all cores", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let square = |values| Matrix::new(values, size, size, size);
                let y = MatrixMut::new(&mut y, size, size, size);
                multiply(square(&a), square(&b), 1.0, false, y, parallel);
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = peak, operators
}
criterion_main!(benches);
