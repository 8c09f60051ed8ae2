// auto_table.hpp: the table that solver auto chooses by: fitted from records, and judged where nobody measured before. The tool prnn_fit_auto.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "harness/record.hpp"

namespace prnn {

/// A record and the path it was read from.
using NamedRecords = std::pair<std::string, Records>;

/// The policy overrides that the suite set for a row, of those that its solver has.
Policy suite_overrides(const CaseRecord&);

struct FitOptions {
  std::string command;                 // printed, so that anyone can fit the same again
  std::int64_t multiprocessors = 132;  // of the GPU of the records (H100, H200), which they do not state
};

/// kernels/solvers/auto_table.inc: the medians of the rows that are ok, of pass forward or backward (grad all), of regime paper with rotating buffers
/// and adaptive counts, of solvers that can be the fastest. Of the same measurement in several records the last record's holds; of several rows in
/// one (seeds, h0) the median. A candidate that nowhere comes within kKeptWithin of the best of its architecture, pass, cell, storage and gates is left out.
/// Throws BadInput where there is nothing to fit.
std::string fitted_table(const std::vector<NamedRecords>&, const FitOptions&);
inline constexpr double kKeptWithin = 1.5;

inline constexpr int kUnseenPoints = 20;
/// A suite (TOML) of a pass, forward or backward, at kUnseenPoints sizes drawn from the SHA-256 of a table's text: whoever changes the table cannot know
/// them before.
std::string unseen_suite(std::string_view table, std::string_view pass = "forward");

struct AutoCheck {
  std::string text;  // a line for each group and gates: auto's choice, its median over the best solver's
  bool passes = true;
};
/// Holds auto against the best of the other solvers in every group where one is ok. Throws BadInput naming a group without a row of auto.
AutoCheck check_auto(const std::vector<NamedRecords>&, double within);

}  // namespace prnn
