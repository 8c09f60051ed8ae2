// record.hpp: what a run leaves behind: JSON lines, one provenance, then one row a case, flushed a group at a time (design section 3).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "harness/plan.hpp"
#include "harness/shard.hpp"

namespace prnn {

/// No room left for the record, or a short write: exit code 5.
struct DiskFull : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct TimeSummary {
  double median = 0, min = 0, mean = 0, mad = 0, ci95_low = 0, ci95_high = 0;  // seconds
  std::int64_t samples = 0;
  std::string method;  // how one sample was taken
};

struct ErrorSize {
  std::optional<double> abs_max, rel_max, ulp_max, ulp_p99, rms;
  std::optional<std::int64_t> verified_prefix;                // steps
  std::vector<std::array<std::int64_t, 2>> channels_checked;  // (b, d) held against the reference
  std::string reference;                                      // empty: none, and a null in the row
};

/// With the verdict's ratios to the bounds.
struct ErrorSummary : ErrorSize {
  std::optional<double> ratio_local, ratio_forward, test_ratio;
};

/// Of gradients, against the true ones at the true states from the same u, a and h0: what the forward pass did to them too, so without a bound or a verdict.
/// verified_prefix: steps compared, counted from the end of the sequence.
struct EndToEndError {
  std::optional<ErrorSize> du, da, dh0;
};

/// Of states that Newton's method was stopped at after a fixed count: the error that exact arithmetic would have left, and the rest.
struct TruncationSummary {
  std::optional<double> truncation_max, rounding_max;
  std::optional<std::int64_t> verified_prefix;                // steps
  std::vector<std::array<std::int64_t, 2>> channels_checked;  // (b, d)
};

struct Speedup {
  double ratio = 0, ci95_low = 0, ci95_high = 0;  // baseline time / this time
};

inline constexpr std::size_t kSamplesKept = 200;

/// So many samples in a row by one process of the program; of a case that two programs took turns at.
struct Visit {
  std::int64_t samples = 0, process = 0;  // process: 0, 1, ... in the order of starting
  std::optional<double> clock_mhz;
};

/// A row. What is not set becomes null, with its reason in null_reasons: the one given here, else a default for the field.
struct CaseRecord {
  // identity
  Problem problem;  // problem.policy: what the suite asked for; not written
  std::string suite, device, solver, cache, group_id, case_id;
  std::optional<std::string> gpu_name;
  Policy policy;              // what ran
  std::string policy_solver;  // solver auto: its choice; empty else
  // verdict
  Status status = Status::error, expected_status = Status::ok;
  std::string reason;  // of a status that is not ok
  std::map<std::string, std::string> null_reasons;
  // time
  std::optional<TimeSummary> time_s;
  std::vector<double> samples_s;             // kSamplesKept at most
  std::optional<std::vector<Visit>> visits;  // samples_s is theirs, one after the other; none: one visit, one process
  std::optional<double> time_graph_s, host_s, clock_mhz;
  std::optional<std::int64_t> graph_launches;  // N of time_graph_s
  // limit
  std::optional<std::int64_t> bytes_min, flops;
  std::optional<double> floor_s, floor_fraction, compute_floor_s;
  // solver
  std::optional<std::int64_t> iterations, rounds, boundaries, boundaries_failed;
  std::optional<bool> converged, deterministic;
  std::vector<double> residual_max, step_max;  // k = 0 is the guess
  std::optional<double> lyapunov, jacobian_max;
  // error
  std::optional<ErrorSummary> error, error_du, error_da, error_dh0;
  std::optional<EndToEndError> error_end_to_end;  // pass both
  std::optional<TruncationSummary> truncation;    // a fixed count of iterations
  std::map<std::string, Speedup> speedup;         // by baseline

  /// The largest test_ratio of the outputs that were judged; NaN is the largest.
  std::optional<double> worst_test_ratio() const;
};

/// The identity of a planned case, status error until something better is known (skipped where the plan says so).
CaseRecord record_of(const Case&, const Suite&, const std::optional<GpuInfo>&);

/// Every field of design section 3, in its order; a NaN or infinity becomes null with a reason.
Json to_json(const CaseRecord&);
/// The inverse; throws BadInput naming the field.
CaseRecord case_record(const Json&);

/// The record beside this one, of the program that took turns with this one (run --against).
struct Interleaved {
  std::string session;          // the same in both
  std::int64_t side = 0;        // 0: the program that was called, 1: the other
  std::string program, commit;  // of the other
};

struct Provenance {
  std::string time_utc, command, commit;
  bool dirty = false;
  std::string compiler, flags, cuda;  // cuda: version, or "none"
  std::string cpu, os;
  std::int64_t cores = 0;
  std::optional<GpuInfo> gpu;
  std::string suite_path, suite_sha256, suite_text;
  std::uint64_t order_seed = 0;
  std::optional<double> copy_bytes_per_s, launch_s;  // none: nothing was timed
  std::string fingerprint;
  std::map<std::string, std::string> text;  // regimes text and trained: file, package, bytes, sha256; empty: not used
  std::optional<Shard> shard;               // none: the whole plan
  std::optional<Interleaved> interleaved_with;
  std::map<std::string, std::string> cell;  // of run --cell: path, sha256, text of its header; empty: the program's own
  std::string inject;                       // damage that was asked for, to try the gate with; empty: none
};

/// Of the header that --cell gave, for comparing records; or that there was none.
std::string sha256_of_cell(const Provenance&);

/// What this build and computer know by themselves: time, commit, compiler, cpu, os, gpu, suite, fingerprint. The rest is the caller's.
Provenance provenance_here(const Suite&, const std::string& command, std::string_view device, const std::optional<GpuInfo>&);
Json to_json(const Provenance&);
Provenance provenance(const Json&);

/// A record file as read. A last line without its newline is what a kill leaves: dropped, and whole_bytes ends before it.
struct Records {
  Provenance head;
  std::vector<CaseRecord> rows;
  std::vector<std::string> lines;  // of the rows, without newline
  std::string head_line;
  std::int64_t whole_bytes = 0;
};
/// Throws BadInput ("file:line: ...").
Records read_records(const std::string& path);

/// Appends to a record file; a group is one write and one flush to disk, so a kill loses at most the group in flight.
class RecordWriter {
 public:
  /// A new file, its directory made if missing; throws BadInput where it exists or cannot be written.
  static RecordWriter create(const std::string& path);
  /// An existing file, from its end.
  static RecordWriter append(const std::string& path);
  RecordWriter(RecordWriter&&) noexcept;
  RecordWriter& operator=(RecordWriter&&) = delete;
  ~RecordWriter();

  void write(const Provenance&);
  void write(const std::vector<CaseRecord>& group);  // throws DiskFull
  const std::string& path() const { return path_; }

 private:
  RecordWriter(std::string path, int file) : path_(std::move(path)), file_(file) {}
  void write_text(const std::string&);
  std::string path_;
  int file_ = -1;
};

/// Refuses to go on in a record of another suite, text, machine, commit, shard or kind of run (BadInput).
void require_same_run(const std::string& path, const Provenance& theirs, const Provenance& now);

/// Replaces a record file in one step by these lines, without newlines; throws DiskFull, BadInput.
void replace_record(const std::string& path, const std::vector<std::string>& lines);
std::string line_of(const CaseRecord&);
std::string line_of(const Provenance&);

/// What is left to do of a plan. done: rows of the plan that are in the file and stay. head: of the file; its order seed and copy rate hold for the rows to come.
struct Resumed {
  std::vector<Group> groups;
  std::vector<CaseRecord> done;
  Provenance head;
};
/// Prepares path to be continued, where it is of the same run; a group of the plan that is not whole in it,
/// or has a row that is error or timeout, is to be run again, and its rows are taken out of the file (atomically).
/// keep_failed: rows that are error or timeout stay, for a run that goes on by itself.
Resumed resume(const std::string& path, const Provenance& now, std::vector<Group> plan, bool keep_failed = false);

/// Exit code of a finished sweep (design section 1): 2 wrong numbers, 5 rows missing, crashed or skipped without excuse, 3 not converged, 0.
/// Only statuses that differ from expected count; planned: case_ids that must have a row.
int exit_code(const std::vector<CaseRecord>& rows, const std::vector<std::string>& planned);

}  // namespace prnn
