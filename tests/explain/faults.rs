//! A device that fails at every call that it can be asked, one after the other:
//! one typed error each, nothing held afterwards, and the next work is right.

use std::sync::{Arc, Mutex};

use sonograd::engine::Engine;
use sonograd::engine::executor::Executor;
use sonograd::engine::gpu::adapter::open_for_tests;
use sonograd::engine::gpu::{GpuExecutor, GpuOptions};
use sonograd::engine::native::{Native, NativeExecutor};
use sonograd::explain::spes::Stop;
use sonograd::explain::{Subject, explain};
use sonograd::features::Features;
use sonograd::generate::{GenerationOptions, Moment, transcribe};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::tokenizer::Tokenizer;
use sonograd::{ErrorKind, ExplainOptions, Method, Result, Site, Wanted};

use crate::faulty::{CALLS, Call, Faults, Faulty};
use crate::random_model::{self, SMALL, numbers};

const FRAMES: usize = 60;
const TOKENS: [u32; 4] = [5, 9, 6, 2];

struct Setting {
    model: Model,
    tokenizer: Tokenizer,
    features: Features,
    options: ExplainOptions,
}

/// An engine that may fail, and what tells it to.
type Device = (Engine<Faulty<Native<f32>>>, Arc<Mutex<Faults>>);

/// All numbers of all maps, as bits.
type Bits = Vec<u32>;

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        random_model::write_folder(folder.path(), SMALL);
        let model = Model::load(ModelFiles::folder(folder.path()).unwrap()).unwrap();
        let bins = SMALL.mel_bins;
        let mut options = ExplainOptions::default();
        options.methods = vec![
            Method::Attention,
            Method::Gradient,
            Method::SmoothGrad,
            Method::IntegratedGradients,
            Method::AttentionNorm,
            Method::AttentionXGradient,
            Method::Spes,
        ];
        options.sites = vec![Site::Input, Site::Encoder, Site::Tokens];
        options.spes.stop = Stop::Masks(40);
        options.spes.segments = vec![20];
        options.spes.batch = Some(16);
        Self {
            tokenizer: model.tokenizer().unwrap(),
            model,
            features: Features::new(numbers(2000, FRAMES * bins), FRAMES, bins).unwrap(),
            options,
        }
    }

    fn device(&self) -> Device {
        let native = NativeExecutor::<f32>::new(&self.model.weights, false);
        Faulty::engine(native.into_backend())
    }

    fn explain(&self, executor: &mut dyn Executor) -> Result<Bits> {
        let subject = Subject {
            file: "sound".into(),
            seconds: 0.6,
            fingerprint: None,
            warnings: &[],
            features: &self.features,
            encoded: None,
            prompt: &[self.model.tokens.start],
            tokens: &TOKENS,
        };
        let go_on = &mut |_| true;
        let maps = explain(
            executor,
            &self.model,
            &self.tokenizer,
            &subject,
            &self.options,
            go_on,
        )?;
        let values = maps.iter().flat_map(|map| map.data().to_vec());
        Ok(values.map(f32::to_bits).collect())
    }

    fn transcribe(&self, executor: &mut dyn Executor) -> Result<Bits> {
        let wanted = Wanted::default();
        let options = GenerationOptions::new(&self.model, Some(&self.tokenizer), &wanted)?;
        let go_on = &mut |_: Moment| true;
        let transcript = transcribe(executor, &self.model, &self.features, &options, go_on)?;
        let windows = transcript.windows.into_iter();
        Ok(windows.flat_map(|window| window.generated.tokens).collect())
    }
}

/// Nothing is held but weights.
fn holds_nothing(executor: &dyn Executor, what: &str) {
    assert_eq!(executor.memory_bytes(), executor.weight_bytes(), "{what}");
}

/// Lets work fail at every call. On a new device plans are compiled, on one
/// that has done the work before they are bound.
fn fails_everywhere(setting: &Setting, work: impl Fn(&mut dyn Executor) -> Result<Bits>) {
    let (mut first, faults) = setting.device();
    let whole = work(&mut first).unwrap();
    let new = std::mem::take(&mut faults.lock().unwrap().calls);
    assert_eq!(work(&mut first).unwrap(), whole);
    let again = std::mem::take(&mut faults.lock().unwrap().calls);
    holds_nothing(&first, "without faults");
    let mut met = 0;
    for (calls, used) in [(&new, false), (&again, true)] {
        for call in CALLS {
            let count = calls.iter().filter(|own| **own == call).count();
            for number in 0..count {
                for kind in [ErrorKind::Device, ErrorKind::Memory] {
                    let what = format!("{call:?} {number} of {count}, {kind:?}, used: {used}");
                    let (mut executor, faults) = setting.device();
                    if used {
                        work(&mut executor).unwrap();
                    }
                    faults
                        .lock()
                        .unwrap()
                        .arm(Some((call, number, kind)), false);
                    match work(&mut executor) {
                        Err(error) => {
                            assert_eq!(error.kind(), kind, "{what}: {error}");
                            assert!(!error.to_string().contains('\n'), "{what}: {error}");
                        }
                        // SPES takes fewer masks at once; any other failure counts.
                        Ok(bits) => {
                            assert_eq!(kind, ErrorKind::Memory, "{what} is overlooked");
                            assert_eq!(bits, whole, "{what}: other maps");
                        }
                    }
                    holds_nothing(&executor, &what);
                    faults.lock().unwrap().arm(None, false);
                    let after = work(&mut executor);
                    assert_eq!(after.unwrap(), whole, "{what}: the next work");
                    holds_nothing(&executor, &what);
                    met += 1;
                }
            }
        }
    }
    println!("{met} faults met");
    assert!(met > 40, "{met}");
}

#[test]
fn explanations_end_with_one_error_wherever_a_device_fails() {
    let setting = Setting::new();
    fails_everywhere(&setting, |executor| setting.explain(executor));
}

#[test]
fn transcripts_end_with_one_error_wherever_a_device_fails() {
    let setting = Setting::new();
    fails_everywhere(&setting, |executor| setting.transcribe(executor));
}

#[test]
fn a_lost_device_is_one_error_and_all_is_given_back() {
    let setting = Setting::new();
    let (mut first, faults) = setting.device();
    setting.explain(&mut first).unwrap();
    let calls = std::mem::take(&mut faults.lock().unwrap().calls);
    for call in CALLS {
        let count = calls.iter().filter(|own| **own == call).count();
        for number in 0..count {
            let (mut executor, faults) = setting.device();
            let at = Some((call, number, ErrorKind::Device));
            faults.lock().unwrap().arm(at, true);
            let what = format!("lost at {call:?} {number} of {count}");
            for _ in 0..2 {
                let lost = setting.explain(&mut executor);
                let error = lost.expect_err(&what);
                assert_eq!(error.kind(), ErrorKind::Device, "{what}: {error}");
                holds_nothing(&executor, &what);
            }
        }
    }
}

/// Faults before a GPU's backend: some calls of every kind fail once each, on one
/// device, which does its work afterwards as if nothing had been.
#[test]
#[cfg_attr(no_test_gpu, ignore = "SONOGRAD_TEST_GPU=none")]
fn a_gpu_that_fails_explains_afterwards() {
    const OF_A_KIND: usize = 6;
    let mut setting = Setting::new();
    setting.options.methods = vec![Method::Attention, Method::Gradient, Method::Spes];
    setting.options.sites = vec![Site::Input];
    let device = Arc::new(open_for_tests());
    let weights = &setting.model.weights;
    let gpu = GpuExecutor::new(device, weights, &GpuOptions::default()).unwrap();
    let (mut executor, faults) = Faulty::engine(gpu.into_backend());
    let whole = setting.explain(&mut executor).unwrap();
    std::mem::take(&mut faults.lock().unwrap().calls);
    assert_eq!(setting.explain(&mut executor).unwrap(), whole);
    // Scalars and the buffer for reads stay.
    let idle = executor.memory_bytes();
    let calls = std::mem::take(&mut faults.lock().unwrap().calls);
    let mut met = 0;
    for call in CALLS {
        let count = calls.iter().filter(|own| **own == call).count();
        for number in (0..count).step_by(count.div_ceil(OF_A_KIND).max(1)) {
            for kind in [ErrorKind::Device, ErrorKind::Memory] {
                let what = format!("{call:?} {number} of {count}, {kind:?}");
                let at = Some((call, number, kind));
                faults.lock().unwrap().arm(at, false);
                match setting.explain(&mut executor) {
                    Err(error) => assert_eq!(error.kind(), kind, "{what}: {error}"),
                    // Fewer masks at once.
                    Ok(_) => assert_eq!(kind, ErrorKind::Memory, "{what} is overlooked"),
                }
                assert!(executor.memory_bytes() <= idle, "{what}");
                faults.lock().unwrap().arm(None, false);
                assert_eq!(setting.explain(&mut executor).unwrap(), whole, "{what}");
                assert!(executor.memory_bytes() <= idle, "{what}");
                met += 1;
            }
        }
    }
    println!("{met} faults met");
    assert!(met > 20, "{met}");
}

/// The largest plan that a device takes, from what SPES wants to less than one
/// mask needs.
#[test]
fn spes_takes_fewer_masks_at_once_and_gives_the_same_bits() {
    let mut setting = Setting::new();
    setting.options.methods = vec![Method::Spes];
    let (mut first, faults) = setting.device();
    let whole = setting.explain(&mut first).unwrap();
    let usual = faults.lock().unwrap().count(Call::Compile);
    let mut most = 16 << 20;
    let (mut fewer, mut refused) = (0, 0);
    while most > 1_000 {
        let (mut executor, faults) = setting.device();
        faults.lock().unwrap().largest_plan = Some(most);
        match setting.explain(&mut executor) {
            Ok(bits) => {
                assert_eq!(bits, whole, "plans of {most} bytes at most");
                let compiled = faults.lock().unwrap().count(Call::Compile);
                fewer += usize::from(compiled > usual);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Memory, "{error}");
                refused += 1;
            }
        }
        holds_nothing(&executor, &format!("plans of {most} bytes at most"));
        // Logits alone are there for all masks: fewer take little less.
        most = most * 15 / 16;
    }
    assert!(fewer > 0 && refused > 0, "{fewer}, {refused}");
}
