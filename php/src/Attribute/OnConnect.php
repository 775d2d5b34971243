<?php

declare(strict_types=1);

namespace Ws2Api\Attribute;

use Attribute;

/**
 * Marks the method that lets a client in: by `true`, and by nothing else. {@see \Ws2Api\Refused}, thrown, is another status than 403.
 */
#[Attribute(Attribute::TARGET_METHOD)]
final class OnConnect
{
}
