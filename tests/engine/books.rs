//! The books of an executor, on each of its backends: ids that are never given
//! twice, and plans that fit whatever tensors are in their slots.

use std::sync::Arc;

use sonograd::engine::executor::{Executor, PlanId, Values};
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions};
use sonograd::engine::native::NativeExecutor;
use sonograd::engine::profile::Purpose;
use sonograd::engine::recording::Recording;
use sonograd::engine::tensor::{Kind, PersistentId, Scalars, Shape, WeightId};
use sonograd::engine::weights::{Form, Role, WeightTable};
use sonograd::ops::Add;

const SHAPE: Shape = Shape::new(3, 2, 4);

fn weights() -> Arc<WeightTable> {
    let mut table = WeightTable::default();
    let role = Role::encoder(Form::Matrix);
    table.add(
        role,
        "weight",
        4,
        4,
        (0..16).map(|i| i as f32).collect::<Vec<_>>(),
    );
    Arc::new(table)
}

/// What holds on each executor, as a test on the processor and one on a GPU.
macro_rules! on_each {
    ($($name:ident),* $(,)?) => {
        mod native {
            use super::*;

            $(#[test]
            fn $name() {
                let weights = weights();
                super::$name(&mut NativeExecutor::<f32>::new(&weights, false), &weights);
                super::$name(&mut NativeExecutor::<f64>::new(&weights, false), &weights);
            })*
        }

        mod gpu {
            use super::*;

            $(#[test]
            #[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
            fn $name() {
                let (device, weights) = (Arc::new(open_for_tests()), weights());
                let gpu = GpuExecutor::new(device, &weights, &GpuOptions::default());
                super::$name(&mut gpu.unwrap(), &weights);
            })*
        }
    };
}

on_each!(
    what_was_given_back_is_an_error_and_nobody_elses,
    kept_plans_fit_whatever_tensors_are_in_their_slots,
    equal_recordings_at_once_have_plans_of_their_own,
    unwinding_gives_back_what_is_newer_alone,
    values_and_recordings_that_do_not_fit_are_refused,
);

/// a - b + what is made of weights alone, and twice that in the next stage.
fn recording(weights: &Arc<WeightTable>, [a, b, sum, double]: [PersistentId; 4]) -> Recording {
    let mut recording = Recording::new(Arc::clone(weights));
    let r = &mut recording;
    let weight = r.weight(WeightId(0));
    let table = r.constant(
        Shape::new(1, 2, 4),
        vec![1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0],
    );
    let once = r.matmul(table, weight).record().unwrap();
    let [a, b] = [a, b].map(|id| r.persistent(id, Kind::Real, SHAPE));
    let mut add = |a, b, scale_a, scale_b| {
        let y = r.computed(SHAPE);
        r.push(Add {
            a,
            b,
            scale_a,
            scale_b,
            y,
        });
        y
    };
    let difference = add(a, b, 1.0, -1.0);
    let y = add(difference, once, 1.0, 1.0);
    recording.keep(y, sum);
    recording.next_stage();
    let twice = recording.computed(SHAPE);
    recording.push(Add {
        a: y,
        b: y,
        scale_a: 1.0,
        scale_b: 1.0,
        y: twice,
    });
    recording.keep(twice, double);
    recording
}

fn allocate(executor: &mut dyn Executor) -> PersistentId {
    executor.allocate(Kind::Real, SHAPE).unwrap()
}

fn values(seed: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7 + seed * 13) % 61) as f32 * 0.25 - 7.0;
    (0..SHAPE.len()).map(value).collect()
}

/// Runs a plan with new values; the results, and what they should be.
fn run(
    executor: &mut dyn Executor,
    plan: PlanId,
    [a, b, sum, double]: [PersistentId; 4],
    seed: usize,
) -> [Vec<Vec<f32>>; 2] {
    let inputs = [values(seed), values(seed + 100)];
    let parts = [a, b].into_iter().zip(&inputs);
    let parts: Vec<_> = parts
        .map(|(id, values)| (id, Values::Real(values.into())))
        .collect();
    executor.upload_all(&parts, Purpose::OTHER).unwrap();
    for stage in 0..2 {
        executor.run(plan, stage, &Scalars::ZERO).unwrap();
    }
    let got = executor.read(&[sum, double], Purpose::OTHER).unwrap();
    // Rows of the product: the weight's first column, twice its second.
    let once = [0.0, 4.0, 8.0, 12.0, 2.0, 10.0, 18.0, 26.0];
    let pairs = inputs[0].iter().zip(&inputs[1]);
    let want = pairs.zip(once.iter().cycle()).map(|((a, b), c)| a - b + c);
    let want: Vec<f32> = want.collect();
    let twice = want.iter().map(|x| 2.0 * x).collect();
    [got, vec![want, twice]]
}

fn refused<T>(done: sonograd::Result<T>, what: &str) {
    let Err(error) = done else {
        panic!("{what} is served");
    };
    assert!(error.to_string().ends_with(what), "{error}");
}

fn what_was_given_back_is_an_error_and_nobody_elses(
    executor: &mut dyn Executor,
    weights: &Arc<WeightTable>,
) {
    let name = executor.name();
    let ids = [(); 4].map(|()| allocate(executor));
    let plan = executor.prepare(recording(weights, ids)).unwrap();
    let [got, want] = run(executor, plan, ids, 1);
    assert_eq!(got, want, "{name}");

    // A plan does not run on a tensor that is gone, nor on the next one.
    let held = executor.memory_bytes();
    executor.free(ids[0]);
    let gone = format!("persistent tensor {} was given back", ids[0].0);
    for _ in 0..2 {
        refused(executor.run(plan, 0, &Scalars::ZERO), &gone);
        refused(executor.prepare(recording(weights, ids)), &gone);
        refused(executor.upload(ids[0], &values(1)), &gone);
        refused(executor.read(&[ids[0]], Purpose::OTHER), &gone);
        let next = allocate(executor);
        assert!(!ids.contains(&next), "{name}");
    }
    // Once more is nothing, whoever has the memory now.
    executor.free(ids[0]);
    assert_eq!(
        executor.memory_bytes(),
        held + SHAPE.len() * bytes(executor)
    );
    // The others are untouched.
    assert_eq!(executor.read(&ids[2..], Purpose::OTHER).unwrap(), want);

    executor.release(plan);
    let released = format!("plan {} was given back", plan.0);
    refused(executor.run(plan, 0, &Scalars::ZERO), &released);
    executor.release(plan);
    let strange = "persistent tensor 1000 is none of this executor's";
    refused(
        executor.read(&[PersistentId(1000)], Purpose::OTHER),
        strange,
    );
    let strange = "plan 1000 is none of this executor's";
    refused(executor.run(PlanId(1000), 0, &Scalars::ZERO), strange);
    let nowhere = recording(weights, [PersistentId::NOWHERE, ids[1], ids[2], ids[3]]);
    assert!(executor.estimate(&nowhere) > 0);
    executor.prepare(nowhere).unwrap_err();
}

/// Bytes of a real number.
fn bytes(executor: &dyn Executor) -> usize {
    match executor.precision().name() {
        "f64" => 8,
        _ => 4,
    }
}

/// Utterances after the first, with tensors that are made in another order,
/// kept longer, or beside others: equal recordings take the plan up, and it
/// works on their tensors.
fn kept_plans_fit_whatever_tensors_are_in_their_slots(
    executor: &mut dyn Executor,
    weights: &Arc<WeightTable>,
) {
    let name = executor.name();
    let empty = executor.memory_bytes();
    let mut held = Vec::new();
    let mut first = None;
    let orders = [[0, 1, 2, 3], [3, 1, 0, 2], [0, 1, 2, 3], [2, 3, 1, 0]];
    for (seed, order) in orders.into_iter().enumerate() {
        let before = executor.profile().flops;
        // Another tensor of the size, which stays.
        held.push(allocate(executor));
        let mut ids = [PersistentId::NOWHERE; 4];
        for place in order {
            ids[place] = allocate(executor);
        }
        let plan = executor.prepare(recording(weights, ids)).unwrap();
        let [got, want] = run(executor, plan, ids, seed);
        assert_eq!(got, want, "{name}, {seed}");
        // Fewer rows have dispatches of their own on a GPU.
        executor.upload(ids[0], &values(seed + 7)).unwrap();
        executor.run_first(plan, 0, 1, &Scalars::ZERO).unwrap();
        let one = executor.read(&[ids[2]], Purpose::OTHER).unwrap();
        executor.run(plan, 0, &Scalars::ZERO).unwrap();
        let all = executor.read(&[ids[2]], Purpose::OTHER).unwrap();
        let row = SHAPE.inner();
        assert_eq!(one[0][..row], all[0][..row], "{name}, {seed}");
        let flops = executor.profile().flops - before;
        let once = first.get_or_insert(flops);
        assert_eq!(flops < *once, seed > 0, "what runs once ran again: {name}");
        // Given back in another order than they were made.
        executor.release(plan);
        for id in ids {
            executor.free(id);
        }
    }
    for id in held {
        assert_ne!(executor.read(&[id], Purpose::OTHER).unwrap()[0].len(), 0);
        executor.free(id);
    }
    let left = executor.memory_bytes() - empty;
    assert!(left <= 4096, "{name}: {left} bytes are left");
}

/// Two plans of one recording at once share nothing, also when both are taken
/// up again.
fn equal_recordings_at_once_have_plans_of_their_own(
    executor: &mut dyn Executor,
    weights: &Arc<WeightTable>,
) {
    for round in 0..3 {
        let mark = executor.mark();
        let ids = [(); 2].map(|()| [(); 4].map(|()| allocate(executor)));
        let plans = ids.map(|ids| executor.prepare(recording(weights, ids)).unwrap());
        assert_ne!(plans[0], plans[1]);
        let order = if round == 1 { [1, 0] } else { [0, 1] };
        let results = order.map(|own| run(executor, plans[own], ids[own], own + 10 * round));
        for [got, want] in results {
            assert_eq!(got, want);
        }
        executor.unwind(mark);
    }
}

fn unwinding_gives_back_what_is_newer_alone(
    executor: &mut dyn Executor,
    weights: &Arc<WeightTable>,
) {
    let old = [(); 4].map(|()| allocate(executor));
    let plan = executor.prepare(recording(weights, old)).unwrap();
    let mark = executor.mark();
    let before = executor.memory_bytes();
    let new = [(); 4].map(|()| allocate(executor));
    let newer = executor.prepare(recording(weights, new)).unwrap();
    executor.free(new[1]);
    executor.unwind(mark);
    assert_eq!(executor.memory_bytes(), before);
    executor.run(newer, 0, &Scalars::ZERO).unwrap_err();
    executor.read(&[new[0]], Purpose::OTHER).unwrap_err();
    let [got, want] = run(executor, plan, old, 3);
    assert_eq!(got, want);
    executor.unwind(mark);
    let [got, want] = run(executor, plan, old, 4);
    assert_eq!(got, want);
}

fn values_and_recordings_that_do_not_fit_are_refused(
    executor: &mut dyn Executor,
    weights: &Arc<WeightTable>,
) {
    let ids = [(); 4].map(|()| allocate(executor));
    let real = "do not fill the persistent tensor (3, 2, 4)";
    refused(executor.upload(ids[0], &[1.0]), real);
    refused(executor.upload_indices(ids[0], &[1; 24]), real);
    let part = || (ids[0], Values::Real(vec![0.0; SHAPE.len()].into()));
    let twice = executor.upload_all(&[part(), part()], Purpose::OTHER);
    refused(twice, "is set twice at once");
    let indices = executor.allocate(Kind::Index, SHAPE).unwrap();
    let read = executor.read(&[indices], Purpose::OTHER);
    refused(
        read,
        "the persistent indices (3, 2, 4) do not hold real numbers",
    );
    for other in [
        indices,
        executor.allocate(Kind::Real, Shape::new(1, 1, 3)).unwrap(),
    ] {
        let wrong = recording(weights, [ids[0], other, ids[2], ids[3]]);
        refused(
            executor.prepare(wrong),
            "for the persistent tensor (3, 2, 4)",
        );
    }
    let twice = recording(weights, [ids[0], ids[1], ids[2], ids[3]]);
    let twice = twice.rebound(vec![ids[0], ids[1], ids[2], ids[2]]);
    refused(executor.prepare(twice), "is in two slots");
    let plan = recording(weights, [ids[0], ids[1], ids[2], ids[3]]);
    let plan = executor.prepare(plan).unwrap();
    let beyond = executor.run(plan, 2, &Scalars::ZERO);
    refused(beyond, "a plan of 2 stages has no stage 2");
    executor.run(plan, 1, &Scalars::ZERO).unwrap();
}

/// What owns an executor can go to another thread.
#[test]
fn executors_are_sent() {
    fn sent<T: Send + ?Sized>() {}
    sent::<dyn Executor>();
    sent::<NativeExecutor<f32>>();
    sent::<sonograd::engine::gpu::GpuExecutor>();
}
