// visits.hpp: the rows of a case that several processes of two programs have visited in turns (run --against): what pairs, and what follows from the samples of all.
#pragma once

#include <cstdint>
#include <vector>

#include "harness/record.hpp"

namespace prnn {

/// How many processes have visited a case; none where nobody took turns.
std::int64_t processes_of(const CaseRecord&);

/// Drops what one row has beyond the visits of the other: without its counterpart a visit pairs with nothing.
void equalise(CaseRecord&, CaseRecord&);

/// Of a case that the other program did not take turns at: its samples stay, as an ordinary run's.
void unpair(CaseRecord&);

/// Log ratios (mine over theirs) of the visits of a case, by pair of processes; none where the two rows cannot be paired.
std::vector<std::vector<double>> paired_visits(const CaseRecord& mine, const CaseRecord& theirs);

/// Adds what a further process found. A status that only one of them saw is the row's; of one that came too late for its visits (limits.total_s) nothing is.
void add_process(CaseRecord&, CaseRecord next, std::int64_t process);

/// Brings up to date what follows from the samples: time_s, floor_fraction, clock_mhz.
void summarise(CaseRecord&);

}  // namespace prnn
