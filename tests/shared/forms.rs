//! Writers of the forms in which people have weights: what `torch.save`,
//! CTranslate2's converters, OpenAI and peft write.

#![allow(dead_code, reason = "every test uses its own part")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Tensors by name: shape and values.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The tensors of a safetensors file in F32.
pub fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let whole = SafeTensors::deserialize(&bytes).unwrap();
    let read = |view: TensorView| {
        let values = view.data().as_chunks::<4>().0.iter();
        let values = values.map(|&bytes| f32::from_le_bytes(bytes)).collect();
        (view.shape().to_vec(), values)
    };
    whole
        .iter()
        .map(|(name, view)| (name.to_owned(), read(view)))
        .collect()
}

/// Writes tensors as safetensors in F32.
pub fn write_safetensors(path: &Path, tensors: &Tensors) {
    let bytes: Vec<Vec<u8>> = tensors.values().map(|(_, values)| wide(values)).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, (shape, _)), bytes)| {
            (
                name.clone(),
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

pub fn wide(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A storage of `torch.save`.
pub struct Storage {
    /// As in `FloatStorage`.
    pub class: &'static str,
    pub bytes: Vec<u8>,
    pub elements: usize,
}

impl Storage {
    pub fn new(class: &'static str, values: &[f32]) -> Self {
        let bytes = match class {
            "DoubleStorage" => values
                .iter()
                .flat_map(|&x| f64::from(x).to_le_bytes())
                .collect(),
            "HalfStorage" => {
                let values = values.iter().map(|&x| f16::from_f32(x));
                values.flat_map(f16::to_le_bytes).collect()
            }
            "BFloat16Storage" => {
                let values = values.iter().map(|&x| bf16::from_f32(x));
                values.flat_map(bf16::to_le_bytes).collect()
            }
            _ => wide(values),
        };
        Self {
            class,
            bytes,
            elements: values.len(),
        }
    }
}

/// A tensor in a storage.
pub struct View {
    pub name: String,
    pub storage: usize,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// Strides of a tensor without gaps.
pub fn row_major(shape: &[usize]) -> Vec<usize> {
    (0..shape.len())
        .map(|axis| shape[axis + 1..].iter().product())
        .collect()
}

/// Every tensor in a storage of its own.
pub fn apart(tensors: &Tensors, class: &'static str) -> (Vec<Storage>, Vec<View>) {
    let storages = tensors
        .values()
        .map(|(_, values)| Storage::new(class, values));
    let views = tensors
        .iter()
        .enumerate()
        .map(|(storage, (name, (shape, _)))| View {
            name: name.clone(),
            storage,
            offset: 0,
            shape: shape.clone(),
            strides: row_major(shape),
        });
    (storages.collect(), views.collect())
}

/// Instructions of a pickle.
pub mod pickle {
    pub fn text(text: &str) -> Vec<u8> {
        [
            b"X",
            &(text.len() as u32).to_le_bytes()[..],
            text.as_bytes(),
        ]
        .concat()
    }

    pub fn int(number: usize) -> Vec<u8> {
        [b"J", &(number as u32).to_le_bytes()[..]].concat()
    }

    pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
        [b"(", &items.concat()[..], b"t"].concat()
    }

    pub fn ints(numbers: &[usize]) -> Vec<u8> {
        tuple(
            &numbers
                .iter()
                .map(|&number| int(number))
                .collect::<Vec<_>>(),
        )
    }

    pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let entries = entries
            .iter()
            .map(|(key, value)| [text(key), value.clone()].concat());
        [b"}(", &entries.collect::<Vec<_>>().concat()[..], b"u"].concat()
    }

    /// A whole pickle of one value.
    pub fn whole(value: &[u8]) -> Vec<u8> {
        [b"\x80\x02", value, b"."].concat()
    }
}

/// The state dict of some views, as instructions.
pub fn state(storages: &[Storage], views: &[View]) -> Vec<u8> {
    let entry = |view: &View| {
        let storage = &storages[view.storage];
        let place = pickle::tuple(&[
            pickle::text("storage"),
            format!("ctorch\n{}\n", storage.class).into_bytes(),
            pickle::text(&view.storage.to_string()),
            pickle::text("cpu"),
            pickle::int(storage.elements),
        ]);
        let arguments = pickle::tuple(&[
            [&place[..], b"Q"].concat(),
            pickle::int(view.offset),
            pickle::ints(&view.shape),
            pickle::ints(&view.strides),
            b"\x89".to_vec(),
            b"ccollections\nOrderedDict\n)R".to_vec(),
        ]);
        let call = [b"ctorch._utils\n_rebuild_tensor_v2\n", &arguments[..], b"R"].concat();
        [pickle::text(&view.name), call].concat()
    };
    let entries: Vec<Vec<u8>> = views.iter().map(entry).collect();
    [
        b"ccollections\nOrderedDict\n)R(",
        &entries.concat()[..],
        b"u",
    ]
    .concat()
}

/// What `torch.save` writes since 1.6; `more` are parts beside the usual ones.
pub fn zipped(root: &[u8], storages: &[Storage], more: &[(&str, &[u8])]) -> Vec<u8> {
    zipped_as(CompressionMethod::Stored, root, storages, more)
}

pub fn zipped_as(
    method: CompressionMethod,
    root: &[u8],
    storages: &[Storage],
    more: &[(&str, &[u8])],
) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    let mut part = |name: String, bytes: &[u8]| {
        writer
            .start_file(format!("archive/{name}"), options)
            .unwrap();
        writer.write_all(bytes).unwrap();
    };
    part("data.pkl".into(), &pickle::whole(root));
    for (name, bytes) in more {
        part((*name).into(), bytes);
    }
    for (key, storage) in storages.iter().enumerate() {
        part(format!("data/{key}"), &storage.bytes);
    }
    part("version".into(), b"3\n");
    writer.finish().unwrap().into_inner()
}

/// What `torch.save` wrote before 1.6.
pub fn rowed(root: &[u8], storages: &[Storage], little_endian: bool) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    bytes.extend(pickle::whole(b"M\xe9\x03"));
    let order = if little_endian { b"\x88" } else { b"\x89" };
    let sizes = pickle::dict(&[("int", pickle::int(4))]);
    bytes.extend(pickle::whole(&pickle::dict(&[
        ("protocol_version", b"M\xe9\x03".to_vec()),
        ("little_endian", order.to_vec()),
        ("type_sizes", sizes),
    ])));
    bytes.extend(pickle::whole(root));
    let keys = (0..storages.len()).rev();
    let names: Vec<Vec<u8>> = keys
        .clone()
        .map(|key| pickle::text(&key.to_string()))
        .collect();
    bytes.extend(pickle::whole(&[b"](", &names.concat()[..], b"e"].concat()));
    for key in keys {
        bytes.extend((storages[key].elements as u64).to_le_bytes());
        bytes.extend(&storages[key].bytes);
    }
    bytes
}

/// Numbers of a CTranslate2 model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    F32,
    F16,
    Bf16,
    /// Rows with a scale each; the rest in F32.
    Int8,
    /// With one scale; the rest in F32.
    Int16,
}

/// Variables of a CTranslate2 model, while they are written.
pub struct CTranslate2 {
    version: u32,
    variables: Vec<u8>,
    count: u32,
    /// Values of what was written, to alias the same.
    seen: BTreeMap<Vec<u8>, String>,
    aliases: Vec<(String, String)>,
}

impl CTranslate2 {
    pub fn new(version: u32) -> Self {
        Self {
            version,
            variables: Vec::new(),
            count: 0,
            seen: BTreeMap::new(),
            aliases: Vec::new(),
        }
    }

    fn text(text: &str) -> Vec<u8> {
        [
            &(text.len() as u16 + 1).to_le_bytes()[..],
            text.as_bytes(),
            b"\0",
        ]
        .concat()
    }

    /// Adds a variable, or an alias where there is an equal one.
    pub fn add(&mut self, name: &str, shape: &[usize], (kind, width): (u8, usize), bytes: &[u8]) {
        let mut whole = vec![shape.len() as u8];
        whole.extend(shape.iter().flat_map(|&side| (side as u32).to_le_bytes()));
        if self.version >= 4 {
            whole.push(kind);
            whole.extend((bytes.len() as u32).to_le_bytes());
        } else {
            whole.push(width as u8);
            whole.extend(((bytes.len() / width) as u32).to_le_bytes());
        }
        whole.extend(bytes);
        if self.version >= 3 && !shape.is_empty() {
            if let Some(other) = self.seen.get(&whole) {
                self.aliases.push((name.to_owned(), other.clone()));
                return;
            }
            self.seen.insert(whole.clone(), name.to_owned());
        }
        self.variables.extend(Self::text(name));
        self.variables.extend(whole);
        self.count += 1;
    }

    pub fn setting(&mut self, name: &str, value: i16) {
        match name.ends_with("num_heads") {
            true => self.add(name, &[], (2, 2), &value.to_le_bytes()),
            false => self.add(name, &[], (1, 1), &[value as u8]),
        }
    }

    /// Adds a tensor; `quantised` ones with scales, if the numbers are so.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[f32],
        packed: Packed,
        quantised: bool,
    ) {
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        match packed {
            Packed::F16 => {
                let halves = values.iter().map(|&x| f16::from_f32(x));
                let bytes: Vec<u8> = halves.flat_map(f16::to_le_bytes).collect();
                self.add(name, shape, (4, 2), &bytes);
            }
            Packed::Bf16 => {
                let halves = values.iter().map(|&x| bf16::from_f32(x));
                let bytes: Vec<u8> = halves.flat_map(bf16::to_le_bytes).collect();
                self.add(name, shape, (5, 2), &bytes);
            }
            Packed::Int8 if quantised => {
                let rows = values.chunks(values.len() / shape[0]);
                let scales: Vec<f32> = rows.clone().map(|row| 127.0 / largest(row)).collect();
                let bytes: Vec<u8> = rows
                    .zip(&scales)
                    .flat_map(|(row, scale)| {
                        row.iter().map(move |x| (x * scale).round() as i8 as u8)
                    })
                    .collect();
                self.add(name, shape, (1, 1), &bytes);
                self.add(
                    &format!("{name}_scale"),
                    &[shape[0]],
                    (0, 4),
                    &wide(&scales),
                );
            }
            Packed::Int16 if quantised => {
                let scale = 1024.0 / largest(values);
                let whole = values.iter().map(|x| (x * scale).round() as i16);
                let bytes: Vec<u8> = whole.flat_map(i16::to_le_bytes).collect();
                self.add(name, shape, (2, 2), &bytes);
                self.add(&format!("{name}_scale"), &[], (0, 4), &wide(&[scale]));
            }
            _ => self.add(name, shape, (0, 4), &wide(values)),
        }
    }

    /// The whole file.
    pub fn finish(self, specification: &str) -> Vec<u8> {
        let mut bytes = self.version.to_le_bytes().to_vec();
        bytes.extend(Self::text(specification));
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.variables);
        if self.version >= 3 {
            bytes.extend((self.aliases.len() as u32).to_le_bytes());
            for (alias, name) in self.aliases {
                bytes.extend(Self::text(&alias));
                bytes.extend(Self::text(&name));
            }
        }
        bytes
    }
}

/// A Whisper's `model.bin` as CTranslate2's converter makes it.
pub fn ctranslate2(
    tensors: &Tensors,
    heads: [i16; 2],
    packed: Packed,
    version: u32,
) -> CTranslate2 {
    let mut model = CTranslate2::new(version);
    let get = |name: &str| tensors.get(&format!("model.{name}"));
    // Rows of several tensors; zeros for a bias that is not there.
    let stacked = |names: &[String], field: &str| {
        let width = get("encoder.conv1.bias").unwrap().0[0];
        let parts = names
            .iter()
            .map(|name| match get(&format!("{name}.{field}")) {
                Some(part) => part.clone(),
                None => (vec![width], vec![0.0; width]),
            });
        let parts: Vec<_> = parts.collect();
        let mut shape = parts[0].0.clone();
        shape[0] = parts.iter().map(|(shape, _)| shape[0]).sum();
        (
            shape,
            parts
                .into_iter()
                .flat_map(|(_, values)| values)
                .collect::<Vec<f32>>(),
        )
    };
    for (part, heads) in [("encoder", heads[0]), ("decoder", heads[1])] {
        model.setting(&format!("{part}/num_heads"), heads);
        let mut one = |name: String, from: &str, quantised: bool| {
            let (shape, values) = get(from).unwrap();
            model.tensor(&format!("{part}/{name}"), shape, values, packed, quantised);
        };
        if part == "encoder" {
            for convolution in ["conv1", "conv2"] {
                one(
                    format!("{convolution}/weight"),
                    &format!("encoder.{convolution}.weight"),
                    true,
                );
                one(
                    format!("{convolution}/bias"),
                    &format!("encoder.{convolution}.bias"),
                    false,
                );
            }
        } else {
            one(
                "embeddings/weight".into(),
                "decoder.embed_tokens.weight",
                true,
            );
        }
        one(
            "position_encodings/encodings".into(),
            &format!("{part}.embed_positions.weight"),
            false,
        );
        for (own, field) in [("gamma", "weight"), ("beta", "bias")] {
            one(
                format!("layer_norm/{own}"),
                &format!("{part}.layer_norm.{field}"),
                false,
            );
        }
        for layer in 0.. {
            let prefix = format!("{part}.layers.{layer}");
            if get(&format!("{prefix}.fc1.weight")).is_none() {
                break;
            }
            let mut several = |name: &str, from: &[&str]| {
                let from: Vec<String> = from.iter().map(|own| format!("{prefix}.{own}")).collect();
                for field in ["weight", "bias"] {
                    let (shape, values) = stacked(&from, field);
                    let name = format!("{part}/layer_{layer}/{name}/{field}");
                    model.tensor(&name, &shape, &values, packed, field == "weight");
                }
            };
            several(
                "self_attention/linear_0",
                &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            );
            several("self_attention/linear_1", &["self_attn.out_proj"]);
            several("ffn/linear_0", &["fc1"]);
            several("ffn/linear_1", &["fc2"]);
            if part == "decoder" {
                several("attention/linear_0", &["encoder_attn.q_proj"]);
                several(
                    "attention/linear_1",
                    &["encoder_attn.k_proj", "encoder_attn.v_proj"],
                );
                several("attention/linear_2", &["encoder_attn.out_proj"]);
            }
            let norms = [
                ("self_attention", "self_attn_layer_norm"),
                ("ffn", "final_layer_norm"),
                ("attention", "encoder_attn_layer_norm"),
            ];
            for (block, from) in norms {
                for (own, field) in [("gamma", "weight"), ("beta", "bias")] {
                    let Some((shape, values)) = get(&format!("{prefix}.{from}.{field}")) else {
                        continue;
                    };
                    let name = format!("{part}/layer_{layer}/{block}/layer_norm/{own}");
                    model.tensor(&name, shape, values, packed, false);
                }
            }
        }
    }
    for (name, value) in [("activation", 3), ("pre_norm", 1), ("scale_embeddings", 0)] {
        model.setting(&format!("decoder/{name}"), value);
    }
    // Equal to the embedding: an alias, since version 3.
    if version >= 3 {
        let embedding = "decoder/embeddings/weight".to_owned();
        model
            .aliases
            .push(("decoder/projection/weight".into(), embedding));
    }
    model
}

/// OpenAI's name of a Hugging Face tensor.
pub fn openai_name(name: &str) -> String {
    let mut name = name.trim_start_matches("model.").to_owned();
    for (theirs, own) in [
        ("self_attn_layer_norm", "attn_ln"),
        ("encoder_attn_layer_norm", "cross_attn_ln"),
        ("final_layer_norm", "mlp_ln"),
        ("encoder.layer_norm", "encoder.ln_post"),
        ("decoder.layer_norm", "decoder.ln"),
        ("embed_positions.weight", "positional_embedding"),
        ("embed_tokens", "token_embedding"),
        ("encoder_attn", "cross_attn"),
        ("self_attn", "attn"),
        ("q_proj", "query"),
        ("k_proj", "key"),
        ("v_proj", "value"),
        ("out_proj", "out"),
        ("layers", "blocks"),
        ("fc1", "mlp.0"),
        ("fc2", "mlp.2"),
    ] {
        name = name.replace(theirs, own);
    }
    name
}
