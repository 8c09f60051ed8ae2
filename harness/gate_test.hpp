// gate_test.hpp: small records to hold against each other.
#pragma once

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "harness/gate.hpp"

namespace prnn::testing {

/// An ok row with the samples given, seconds.
inline CaseRecord row_of(const std::string& case_id, std::vector<double> samples_s) {
  CaseRecord row;
  row.case_id = row.group_id = case_id;
  row.device = "cpu", row.solver = "seq_fused", row.suite = "s";
  row.status = Status::ok;
  row.error.emplace().test_ratio = 1;
  row.iterations = 5, row.rounds = 0;
  row.samples_s = std::move(samples_s);
  return row;
}

inline RecordFile file_of(const std::string& path, std::vector<CaseRecord> rows) {
  RecordFile file{.path = path, .rows = std::move(rows)};
  file.head.fingerprint = "here", file.head.suite_sha256 = "suite", file.head.commit = "c0ffee";
  file.head.copy_bytes_per_s = 1e10;
  for (std::size_t i = 0; i < file.rows.size(); ++i) file.row_of[file.rows[i].case_id] = i;
  return file;
}

/// Records of one build, the first of them first.
inline Runs runs_of(std::vector<RecordFile> files) { return {.name = files.front().path, .files = std::move(files)}; }

/// Medians of the visits, in the order of time; visit k by process k / 2.
inline CaseRecord visited(const std::vector<double>& medians_s) {
  CaseRecord row = row_of("a", {});
  row.visits.emplace();
  for (std::size_t k = 0; k < medians_s.size(); ++k) {
    for (const double factor : {0.9, 1.0, 5.0}) row.samples_s.push_back(factor * medians_s[k]);
    row.visits->push_back({3, static_cast<std::int64_t>(k / 2), std::nullopt});
  }
  return row;
}
/// One side of two programs that took turns.
inline RecordFile in_session(const std::string& path, const CaseRecord& row, const std::string& session, std::int64_t side) {
  RecordFile file = file_of(path, {row});
  file.head.interleaved_with = Interleaved{session, side, "other", "c"};
  return file;
}

/// Sessions of one build with itself, one pair of processes each, which are off by these logs; their partners in `partners`.
inline Runs sessions_with_itself(const std::vector<double>& logs, std::vector<RecordFile>& partners) {
  std::vector<RecordFile> files;
  for (const double off : logs) {
    const std::string session = "c" + std::to_string(files.size());
    files.push_back(in_session(session, visited({std::exp(off), std::exp(off)}), session, 0));
    partners.push_back(in_session(session + ".against", visited({1, 1}), session, 1));
  }
  return runs_of(std::move(files));
}

/// A process of a build: its luck for one case, then the samples that it takes, in units of the case's time.
struct Simulated {
  std::function<double(std::mt19937_64&)> luck, sample;
  int samples = 1;
};

inline Simulated normal_noise(double luck, double sample, int samples) {
  return {[luck](std::mt19937_64& random) { return std::exp(std::normal_distribution<double>(0, luck)(random)); },
          [sample](std::mt19937_64& random) { return std::exp(std::normal_distribution<double>(0, sample)(random)); }, samples};
}

inline RecordFile simulated(const Simulated& law, int cases, double factor, std::mt19937_64& random) {
  std::vector<CaseRecord> rows;
  for (int i = 0; i < cases; ++i) {
    const double luck = law.luck(random);
    std::vector<double> samples;
    for (int k = 0; k < law.samples; ++k) samples.push_back(1e-4 * factor * luck * law.sample(random));
    rows.push_back(row_of("case" + std::to_string(i), samples));
  }
  return file_of("simulated", std::move(rows));
}

}  // namespace prnn::testing
