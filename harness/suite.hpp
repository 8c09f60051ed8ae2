// suite.hpp: a suite file (TOML, design section 2) as values: which cases exist, what is measured, what is expected.
// Everything that is not understood is refused with "file:line: what; what was expected": nothing is skipped or guessed.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/api.hpp"

namespace prnn {

/// What became of a case, and what a suite may expect of it (design section 3).
enum class Status { ok, skipped, wrong, not_converged, error, timeout };
std::string_view to_string(Status);
std::optional<Status> parse_status(std::string_view);

/// Values of every axis, in the order of the file; never empty (policy: no key, the shipped one).
struct Axes {
  std::vector<std::string> op{"recurrence"}, scope{"kernel"}, cells, jacobian, solvers, passes{"forward"}, grad{"all"};
  bool all_solvers = false;  // solvers = "all": each op has its own
  std::vector<Storage> storage{Storage::f32};
  std::vector<std::int64_t> batch{1}, hidden{64}, seq_len{256};
  std::vector<std::string> regime{"paper"};
  std::vector<std::optional<double>> weight_std{std::nullopt};  // none: the regime's
  std::vector<std::string> h0{"zero"};
  std::vector<std::uint64_t> seed{1};
  std::vector<std::string> gates{"exact"};
  std::vector<std::optional<int>> iteration_limit{std::nullopt};  // none: adaptive
  std::vector<std::string> cache{"rotating"};
  std::map<std::string, std::vector<std::int64_t>> policy;
};

/// What an op is done with: the values of its axis, cells or jacobian.
const std::vector<std::string>& names_for(const Axes&, const Op&);

/// A product of axes with one expectation: the suite's own, then one for each [[point]].
struct Grid {
  Axes axes;
  Status expect = Status::ok;  // ok | not_converged | wrong
};

struct Limits {
  double case_s = 20, total_s = 600;   // wall clock for one case, for the sweep
  std::int64_t bytes = 8'000'000'000;  // device memory for one case
  double reference_s = 60;             // wall clock for the 50-digit reference of the sweep
};

struct Suite {
  std::string path;    // as given
  std::string name;    // file name without .toml
  std::string sha256;  // of text, lower-case hexadecimal
  std::string text;    // the file, byte for byte
  std::string title;
  std::vector<Grid> grids;             // [0] from the top level; then the points
  std::vector<std::string> baselines;  // solver names; run in every group even where solvers leaves them out
  bool metric_error = true, metric_newton = true, metric_time = true;
  std::string protocol = "ours";                                 // ours | paper: 20 warm-ups, then the minimum of 100
  std::string text_file;                                         // regimes text and trained; empty: what the set-up installed
  std::shared_ptr<const std::vector<unsigned char>> text_bytes;  // read when a grid has such a regime, else null
  Limits limits;
  std::map<std::string, std::string> cell;  // of run --cell, whose cell stands in the place of all: path, sha256, text of its header
};

/// One --set of the command line: axis and its values as written, "seq_len" and "32,64".
using Override = std::pair<std::string, std::string>;
/// "axis=v1,v2" -> Override; throws BadInput.
Override parse_override(std::string_view);

/// Reads and checks a suite. Overrides replace top-level axes before the checks; a point keeps the values it names itself.
/// Throws BadInput.
Suite load_suite(const std::string& path, const std::vector<Override>& overrides = {});
/// The same from text already read; path is for messages and the name.
Suite parse_suite(const std::string& path, std::string text, const std::vector<Override>& overrides = {});

/// The text that the set-up (the wrapper prnn) installs for the regime "text".
struct InstalledText {
  const char *file, *package;
};
inline constexpr InstalledText kInstalledText = {"/usr/share/common-licenses/GPL-3", "base-files"};
/// Its path where it is there, else empty.
std::string default_text_file();

}  // namespace prnn
