//! How far does cross-attention, averaged over heads and layers, agree with
//! SPES, on two sounds?
//!
//! `cargo run --release --example attention_and_spes [MODEL_FOLDER]`

use sonograd::align::Pooling;
use sonograd::study::agreement::Normalisation;
use sonograd::study::statistics::Correlation;
use sonograd::{Listener, Method, Site, Sound};

fn main() -> sonograd::Result<()> {
    let mut builder = Listener::builder();
    if let Some(folder) = std::env::args_os().nth(1) {
        builder = builder.model(folder);
    }
    let mut listener = builder.open()?;
    for file in ["train_to_barcelona.wav", "bus_to_tokyo.flac"] {
        let sound = Sound::read(format!("samples/{file}"))?;
        let heard = listener.transcribe(&sound)?;
        let maps = listener
            .explain(&sound, &heard)
            .methods([Method::Attention, Method::Spes])
            .at(Site::Encoder)
            .run()?;
        let attention = maps.get(Method::Attention, Site::Decoder)?;
        let spes = maps.get(Method::Spes, Site::Encoder)?;
        let [attention, spes] = [attention, spes].map(|map| map.pooled(Pooling::Max));
        let rho = attention?.agreement(&spes?, Correlation::Pearson, Normalisation::Token);
        println!("{}: {:.2}", heard.text(), rho.unwrap_or(f64::NAN));
    }
    Ok(())
}
