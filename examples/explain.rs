use sonograd::{Listener, Maps, Method, Site, Sound};

fn main() -> sonograd::Result<()> {
    let mut listener = Listener::builder().device("auto").open()?;
    let sound = Sound::read("samples/train_to_barcelona.wav")?;
    let heard = listener.transcribe(&sound)?;
    let request = listener.explain(&sound, &heard);
    let methods = [Method::Attention, Method::Gradient];
    let maps = request.methods(methods).at(Site::Input).run()?;
    let map = maps.get(Method::Gradient, Site::Input)?;
    println!("{}", heard.text());
    for axis in map.axes() {
        println!("{} x {}", axis.length, axis.name);
    }
    let folder = std::env::temp_dir().join(format!("explained-{}", std::process::id()));
    maps.save(&folder)?; // with a page to look at
    assert_eq!(Maps::open(&folder)?, maps);
    Ok(())
}
