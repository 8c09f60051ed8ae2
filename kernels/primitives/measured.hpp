// measured.hpp: a table of measured times, and the solver that it says is the fastest for a problem. A choice is a pure function of the table's text,
// the problem and the GPU.
//
// Text, a line each (kernels/solvers/auto_table.inc is one):
//   # a comment
//   architecture sm_90 132 NVIDIA H200   name (cpu or sm_N), multiprocessors (cpu: cores), whose times they are
//   sm_90 forward gru_diag f32 exact 8 1024 512 shooting overlap=40 27.1
//     architecture, pass (forward or backward), cell (of op reduction: diag or 2x2), storage, gates, batch, hidden, seq_len, candidate, microseconds
// A candidate is a solver and the policy overrides that it was measured with, if any. Times of pass backward are those where grad is all: the other
// losses save every solver the same bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/api.hpp"

namespace prnn {

struct Candidate {
  std::string solver;
  Policy overrides;
  bool operator==(const Candidate&) const = default;
};

struct MeasuredTable {
  struct Architecture {
    std::string name;
    std::int64_t multiprocessors;
  };
  struct Line {
    std::string architecture, pass, cell;
    Storage storage;
    std::string gates;
    std::int64_t batch, hidden, seq_len;
    Candidate candidate;
    double time_us;
  };
  std::vector<Architecture> architectures;
  std::vector<Line> lines;
};

/// Throws BadInput, "line N: what; what was expected", for anything that is not as above.
MeasuredTable parse_measured(std::string_view text);

/// A measurement; the base-2 logarithms of batch x hidden, seq_len and time.
struct MeasuredPoint {
  double channels, seq_len, time;
};

/// The time at (channels, seq_len), all as logarithms: linear in seq_len between the measurements with the same channels, then linear in channels
/// between those; bilinear where they make a grid. Outside, on along the line through the nearest two, as far as that is neither falling nor
/// faster than the work grows. One that is alone with its channels follows the others' slope in seq_len. points: not empty.
double predicted_time(const std::vector<MeasuredPoint>& points, double channels, double seq_len);

struct Prediction {
  Candidate candidate;
  double time_us;
};

/// Every candidate for a problem, forward or backward, on a device (cpu; cuda and emulated are GPUs), the fastest first; of equals, the table's first.
/// The times are those of its op and pass, of the nearest architecture that has any; newton_fused on a GPU takes that of the whole tiles that a sequence
/// needs. Of a GPU with other multiprocessors than its: at as many channels a multiprocessor.
/// What the table does not know is taken for what is like it: a cell for gru_diag or (more state components) lstm_cifg_diag, a storage type for
/// the other of its size or f32, gates for exact, rows of whole 16-byte words for others; where it lacks these too, for anything it has. Rows of no
/// whole words with fewer channels than it has such, too, are taken for whole ones: how many channels there are matters more.
std::vector<Prediction> ranked(const MeasuredTable&, const Problem&, std::string_view device, const std::optional<GpuInfo>&);

/// A solver and the problem to give it, which has the candidate's overrides under those of the user.
struct Choice {
  const Solver* solver = nullptr;  // null: none is defined
  Problem problem;
  std::string why_not;  // where there is none: why the first of the ranked is not
};
Choice choose(const MeasuredTable&, const Problem&, std::string_view device, const std::optional<GpuInfo>&);

}  // namespace prnn
