<?php

declare(strict_types=1);

namespace Ws2Api\Attribute;

use Attribute;

/**
 * Marks the method that takes the CallResult of a push made with {@see \Ws2Api\Push::send()}.
 */
#[Attribute(Attribute::TARGET_METHOD | Attribute::IS_REPEATABLE)]
final class OnResult
{
    /** @param string|null $action null: every Action that no other method is named for */
    public function __construct(public readonly ?string $action = null)
    {
    }
}
