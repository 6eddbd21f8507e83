//! Seal a layer, lease it, execute it on the leased memory, verify it again;
//! then flip one bit and see that the next execution does not happen.
//!
//! `cargo run -p vram-residency-cuda --example matvec -- sim`
//! `cargo run -p vram-residency-cuda --example matvec -- cuda:0`

mod engine;
mod model;
mod tamper;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use engine::{Engine, Gpu};
use model::Layer;
use vram_residency::capacity::Sharing;
use vram_residency::device::Device;
use vram_residency::error::VerifyError;
use vram_residency::format::Format;
use vram_residency::key::RootKey;
use vram_residency::load::FormatChoice;
use vram_residency::random::OsRandom;
use vram_residency::sim::SimDevice;
use vram_residency::{Mode, Policy, SealRequest, SealedShard, VramManager};
use vram_residency_cuda::{Cuda, CudaDevice};

/// The device that was named, in the hands of the engine and of the tamperer.
enum Chosen {
    Simulated(SimDevice),
    Gpu(Cuda, Arc<CudaDevice>),
}

fn main() -> ExitCode {
    let named = std::env::args().nth(1).unwrap_or_default();
    let told = choose(&named).and_then(|chosen| run(&chosen));
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("matvec: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn choose(named: &str) -> Result<Chosen, Box<dyn Error>> {
    if named == "sim" {
        return Ok(Chosen::Simulated(SimDevice::new(64 << 20)));
    }
    let ordinal = named.strip_prefix("cuda:").and_then(|n| n.parse().ok());
    let ordinal: u32 = ordinal.ok_or("usage: matvec sim | cuda:N")?;
    let cuda = Cuda::open()?;
    let device = Arc::new(cuda.device(ordinal)?);
    Ok(Chosen::Gpu(cuda, device))
}

fn run(chosen: &Chosen) -> Result<(), Box<dyn Error>> {
    let (device, engine): (Arc<dyn Device>, Engine) = match chosen {
        Chosen::Simulated(device) => (Arc::new(device.clone()), Engine::Host),
        Chosen::Gpu(cuda, device) => {
            let gpu = Gpu::new(cuda, device, device.info().ordinal)?;
            (
                Arc::clone(device) as Arc<dyn Device>,
                Engine::Gpu(Box::new(gpu)),
            )
        }
    };
    println!("device    {} ({})", device.info().name, device.info().kind);
    let manager = VramManager::builder()
        .device_with(device, None, Sharing::Dedicated)
        .key(RootKey::generate(&OsRandom)?)
        .policy(Policy::default())
        .build()?;
    let layer = Layer::new(1);
    let file = layer.to_safetensors();
    let request = SealRequest::bytes(&file).format(FormatChoice::Exactly(Format::Safetensors));
    let shard = manager.seal(request)?;
    println!("sealed    {} bytes, {}", file.len(), shard.record().digest);

    for seed in [2, 3] {
        let x = model::input(seed);
        let lease = manager.lease(&shard, Mode::Full)?;
        let checked = lease.verification().bytes_checked;
        let y = engine.execute(lease, &x)?;
        if y != layer.apply(&x) {
            return Err("the result is wrong".into());
        }
        println!(
            "executed  on {checked} bytes verified just before; y begins {:?}",
            &y.get(..4).unwrap_or_default()
        );
    }
    let verified = manager.verify_sealed(&shard, Mode::Full)?;
    println!(
        "verified  {} bytes again",
        verified.verification().bytes_checked
    );

    flip(chosen, &manager, &shard)?;
    println!("flipped   one bit of a weight in device memory");
    match manager.lease(&shard, Mode::Full) {
        Ok(_) => Err("the flip was not seen".into()),
        // Anything else that goes wrong is no proof that the flip was seen.
        Err(error @ vram_residency::Error::Verify(VerifyError::Contents { .. })) => {
            println!("refused   {error}");
            println!(
                "state     {:?}: nothing was executed on it",
                manager.state()
            );
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// One bit in the middle of the weights.
fn flip(chosen: &Chosen, manager: &VramManager, shard: &SealedShard) -> Result<(), Box<dyn Error>> {
    let offset = shard.tensors().get("weight").ok_or("no weight")?.offset + 777;
    match chosen {
        // Its tensors' data start at an aligned place, so the shard may start
        // a little into its buffer; any byte of the middle does.
        Chosen::Simulated(device) => tamper::flip_simulated(device, offset),
        Chosen::Gpu(cuda, device) => {
            let lease = manager.lease(shard, Mode::TagOnly)?;
            let start = lease.address().ok_or("no address")?.raw();
            let bytes = lease.bytes();
            lease.finish();
            tamper::flip_on_gpu(cuda, device, (start, bytes), start + offset)
        }
    }
}
