// chaotic.hpp: regime chaotic: which draw of a channel's weights is the first that is chaotic. Found on the host, once; a device is told the number.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/primitives/draws.hpp"

namespace prnn {

/// Draws that are tried: where a cell has chaos at all it is found in one of about 45, so 1000 miss it once in 10^10 channels.
inline constexpr int kMostDraws = 1000;

/// The first draw of the weights of channel d with which a small difference grows 2^119-fold over 4096 steps, an exponent above 0.02 a step, and has not
/// shrunk 2^37-fold over the first 256. Along the inputs of batch entry 0 in double, before any is rounded, from state 0: so it depends on cell, regime,
/// seed and d alone, and a channel has the same weights in every storage type, batch and length. Arithmetic without library functions: the same on
/// every host. Remembered. Throws BadInput where none of kMostDraws is: a cell that is monotone in its state has no chaos.
int chaotic_draw(const std::string& cell, const Regime& regime, std::uint64_t seed, std::int64_t d);

/// The search itself, nothing of it remembered; kMostDraws where no draw is chaotic.
int first_chaotic_draw(const std::string& cell, const Regime& regime, std::uint64_t seed, std::int64_t d);
/// Those of the cells that were loaded.
std::map<std::string, decltype(&first_chaotic_draw)>& loaded_chaotic_draws();

/// The same of channels 0 .. hidden - 1, on all cores.
std::vector<std::uint16_t> chaotic_draws(const std::string& cell, const Regime& regime, std::uint64_t seed, std::int64_t hidden);

}  // namespace prnn
