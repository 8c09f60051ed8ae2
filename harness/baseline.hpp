// baseline.hpp: where records lie that others are held against: build/baselines/NAME/1.jsonl, 2.jsonl, ... (A/A runs of one build), a record file, or a folder of them.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "harness/gate.hpp"

namespace prnn {

std::filesystem::path baselines_directory();

/// The record files of a name, a file or a folder; empty: there is no such thing.
std::vector<std::string> baseline_files(const std::string& name_or_path);
/// The same, read; throws BadInput, with the nearest known name, where there is none, or they are not runs of one build.
Runs load_baseline(const std::string& name_or_path);

/// x.jsonl -> x.again2.jsonl: the second fresh run of some cases of x. x.jsonl -> x.against.jsonl: what took turns with x.
std::string again_path(const std::string& record, int number);
std::string against_path(const std::string& record);

/// A record with the fresh runs of its cases that lie beside it.
Runs load_candidate(const std::string& record);
/// What took turns with these records, where it lies beside them.
std::vector<RecordFile> partners_of(std::span<const RecordFile>);

/// Copies the records to build/baselines/NAME, in place of what had that name; throws BadInput where they are not whole, not of one build, or injected with damage.
void save_baseline(const std::string& name, const std::vector<std::string>& files);

/// action: save | list | show.
int baseline_command(const std::string& action, const std::string& name, const std::vector<std::string>& files, bool json);

}  // namespace prnn
