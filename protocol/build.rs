//! Turns `proto/*.proto` into Rust types, without protoc. The result is included by `src/rpc/mod.rs`.

const FILES: [&str; 7] = [
    "proto/common.proto",
    "proto/connection.proto",
    "proto/data.proto",
    "proto/catalog.proto",
    "proto/snapshot.proto",
    "proto/lake.proto",
    "proto/cluster.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["proto"])?;
    // `Bytes` fields are slices of the frame they came in: record batches are never copied on the way in.
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
