//! Weights are selected by their roles, and drawn at random by what they hold.
//! Both were once told by parts of their names: the same weights are selected
//! and the same numbers drawn as then, at commit 63ec1f6.
//!
//! `tests/fixtures/weight_roles/63ec1f6.txt.gz` has a paragraph for each list of
//! weights. It begins with the folders whose `config.json` asks for them: the
//! folder, then digests of the random weights of seed 7, and of these when the
//! decoder's or all are shuffled with seed 5. A line for each weight follows,
//! in order: `m` for matrices, `d` for what is shuffled with the decoder's, `a`
//! for what is shuffled with all, and the name.

use std::fs::{self, File};
use std::io;

use flate2::read::GzDecoder;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::study::checks::Shuffled;

const THEN: &str = "tests/fixtures/weight_roles/63ec1f6.txt.gz";

fn random(folder: &str) -> Model {
    let config = fs::read(format!("{folder}/config.json")).unwrap();
    let files = ModelFiles::Random {
        name: folder.into(),
        config: serde_json::from_slice(&config).unwrap(),
        seed: 7,
    };
    Model::load(files).unwrap()
}

/// FNV-1a over the bits of all weights.
fn digest(model: &Model) -> String {
    let numbers = model.weights.iter().flat_map(|weight| weight.data.iter());
    let hash = numbers.fold(0xCBF2_9CE4_8422_2325, |hash: u64, x| {
        (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0100_0000_01B3)
    });
    format!("{hash:016x}")
}

#[test]
fn roles_choose_what_names_chose() {
    let packed = File::open(THEN).unwrap();
    let then = io::read_to_string(GzDecoder::new(packed)).unwrap();
    let mut folders = 0;
    for paragraph in then.split("\n\n") {
        let (heads, weights): (Vec<&str>, Vec<&str>) =
            paragraph.lines().partition(|line| line.contains('/'));
        for head in heads {
            let folder = head.split(' ').next().unwrap();
            let mark = |is: bool, mark: char| if is { mark } else { '-' };
            let model = random(folder);
            let [decoder, all] = Shuffled::EVERY;
            let now: Vec<String> = model
                .weights
                .iter()
                .map(|weight| {
                    let marks = [
                        mark(weight.role.form.is_matrix(), 'm'),
                        mark(decoder.takes(weight.role), 'd'),
                        mark(all.takes(weight.role), 'a'),
                    ];
                    format!("{} {}", String::from_iter(marks), weight.name)
                })
                .collect();
            assert_eq!(now, weights, "{folder}");
            let shuffled = Shuffled::EVERY.map(|level| {
                let mut model = random(folder);
                level.apply(&mut model, 5);
                digest(&model)
            });
            let [decoder, all] = shuffled;
            assert_eq!(format!("{folder} {} {decoder} {all}", digest(&model)), head);
            folders += 1;
        }
    }
    assert_eq!(folders, 11);
}
